package dbguard

// SequenceOf returns an SQL expression: the quoted name, with its schema, of the sequence that feeds the positions of an events table,
// NULL unless there is exactly one, and it is in the table's schema. table is an SQL expression for the table's oid.
//
// The sequence is the one that the column's default draws from, or that of an identity column. The column may own others that feed nothing:
// a bigserial that became an identity column keeps its sequence. pg_get_serial_sequence may return such a sequence, and returns none that
// the column does not own.
func SequenceOf(table string) string {
	return `(SELECT CASE WHEN pg_catalog.count(*) = 1 THEN pg_catalog.min(pg_catalog.format('%I.%I', n.nspname, q.relname)) END
	FROM pg_catalog.pg_attribute AS a
	LEFT JOIN pg_catalog.pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
	CROSS JOIN LATERAL (
		SELECT p.refobjid AS oid FROM pg_catalog.pg_depend AS p
		WHERE p.classid = 'pg_catalog.pg_attrdef'::pg_catalog.regclass AND p.objid = d.oid AND p.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass
		UNION
		SELECT p.objid FROM pg_catalog.pg_depend AS p
		WHERE p.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND p.refobjid = a.attrelid AND p.refobjsubid = a.attnum
			AND p.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND p.deptype = 'i') AS fed
	JOIN pg_catalog.pg_class AS q ON q.oid = fed.oid AND q.relkind = 'S'
	JOIN pg_catalog.pg_namespace AS n ON n.oid = q.relnamespace AND n.oid = (SELECT relnamespace FROM pg_catalog.pg_class WHERE oid = a.attrelid)
	WHERE a.attrelid = ` + table + ` AND a.attname = 'global_position' AND NOT a.attisdropped)`
}
