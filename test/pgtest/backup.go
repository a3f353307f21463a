package pgtest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// notCopied are the directories of a running server whose files a copy does not need. It needs the directories.
var notCopied = []string{"pg_dynshmem", "pg_notify", "pg_replslot", "pg_serial", "pg_snapshots", "pg_stat_tmp", "pg_subtrans"}

// copyPrimary copies the primary's data directory while the primary runs, and writes the standby's own settings. It uses PostgreSQL's
// functions for backups, since not every package of a server has pg_basebackup.
func (c *Cluster) copyPrimary(ctx context.Context) error {
	err := c.primary.connected(ctx, func(conn *pgx.Conn) error { return c.copyFrom(ctx, conn) })
	if err != nil {
		return fmt.Errorf("copying the primary: %w", err)
	}
	return c.configure()
}

// copyFrom copies the data directory of the server at conn. The log is copied last: it must hold all that the backup's end needs.
func (c *Cluster) copyFrom(ctx context.Context, conn *pgx.Conn) error {
	start, stop := "SELECT pg_backup_start('pgtest', true)::text", "SELECT labelfile FROM pg_backup_stop(false)"
	if conn.PgConn().ParameterStatus("server_version") < "15" {
		start, stop = "SELECT pg_start_backup('pgtest', true, false)::text", "SELECT labelfile FROM pg_stop_backup(false, false)"
	}
	var lsn, label string
	if err := conn.QueryRow(ctx, start).Scan(&lsn); err != nil {
		return err
	}
	const wal = "pg_wal"
	if err := c.copyFiles(".", func(path string) bool {
		dir, _, _ := strings.Cut(path, "/")
		return dir == wal && path != wal || slices.Contains(notCopied, dir) && path != dir || strings.HasPrefix(path, "postmaster.")
	}); err != nil {
		return err
	}
	if err := conn.QueryRow(ctx, stop).Scan(&label); err != nil {
		return err
	}
	if err := c.copyFiles(wal, func(string) bool { return false }); err != nil {
		return err
	}
	for name, content := range map[string]string{
		"backup_label":         label,
		"standby.signal":       "",
		"postgresql.auto.conf": fmt.Sprintf("primary_conninfo = 'host=127.0.0.1 port=%d user=%s'\n", c.primary.port, superuser),
	} {
		path := filepath.Join(c.home.data(), name)
		if err := errors.Join(os.WriteFile(path, []byte(content), 0o600), c.home.own(path)); err != nil {
			return err
		}
	}
	return nil
}

// copyFiles copies what is below a directory of the primary's, except what skip names. Files may vanish meanwhile.
func (c *Cluster) copyFiles(below string, skip func(path string) bool) error {
	from := os.DirFS(c.primary.home.data())
	return fs.WalkDir(from, below, func(path string, entry fs.DirEntry, err error) error {
		target := filepath.Join(c.home.data(), path)
		switch {
		case errors.Is(err, fs.ErrNotExist) || err == nil && skip(path):
			return nil
		case err != nil:
			return err
		case entry.IsDir():
			if err := os.MkdirAll(target, 0o700); err != nil {
				return err
			}
		case entry.Type().IsRegular():
			if err := copyFile(from, path, target); err != nil {
				if errors.Is(err, fs.ErrNotExist) {
					return nil
				}
				return err
			}
		default:
			return fmt.Errorf("%s is neither a file nor a directory", path)
		}
		return c.home.own(target)
	})
}

// copyFile copies a file.
func copyFile(from fs.FS, path, target string) error {
	source, err := from.Open(path)
	if err != nil {
		return err
	}
	defer source.Close()
	file, err := os.OpenFile(target, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(file, source)
	return errors.Join(err, file.Close())
}
