-- The events are the application's memory, and the tables may be older than the
-- migration that adopted them.
DO $$
BEGIN
    RAISE EXCEPTION 'event tables are not dropped by a migration: drop {{events}}, {{heads}} and {{checkpoints}} by hand';
END
$$;
