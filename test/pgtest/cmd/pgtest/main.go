// Command pgtest finds, installs and runs PostgreSQL for the project's tests.
//
//	pgtest install [package ...]      install what is missing; without packages, the PostgreSQL server
//	pgtest where 17                   print the directory that holds the programs of that version's server
//	pgtest run -- command [arg ...]   run a command with a server in PGTEST_URL, and stop the server after it
//
// "pgtest install" knows the server as postgresql; any other name is that of a package of the system, as in
// "pgtest install pgbouncer spin"; "pgtest install postgresql-17" installs a server of that version beside it. See [pgtest.Install] and [pgtest.Run].
package main

import (
	"context"
	"fmt"
	"os"
	"strconv"

	"github.com/getpup/pupsourcing-orchestrator/v2/test/pgtest"
)

const usage = `usage:
  pgtest install [package ...]      install what is missing; without packages, the PostgreSQL server
  pgtest where 17                   print the directory that holds the programs of that version's server
  pgtest run -- command [arg ...]   run a command with a server in PGTEST_URL, and stop the server after it`

func main() {
	code, err := dispatch(context.Background(), os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "pgtest:", err)
		code = max(code, 1)
	}
	os.Exit(code)
}

func dispatch(ctx context.Context, args []string) (code int, err error) {
	switch {
	case len(args) == 1 && args[0] == "install":
		return 0, pgtest.Install(ctx, os.Stderr, "postgresql")
	case len(args) > 1 && args[0] == "install":
		return 0, pgtest.Install(ctx, os.Stderr, args[1:]...)
	case len(args) == 2 && args[0] == "where":
		return 0, where(args[1])
	case len(args) > 2 && args[0] == "run" && args[1] == "--":
		return pgtest.Run(ctx, pgtest.Options{}, args[2:])
	}
	fmt.Fprintln(os.Stderr, usage)
	return 2, nil
}

// where prints where the programs of a major version are.
func where(version string) error {
	major, err := strconv.Atoi(version)
	if err != nil {
		return fmt.Errorf("the version %q is not a number, such as 17", version)
	}
	dir, err := pgtest.FindVersion(major)
	if err != nil {
		return err
	}
	fmt.Println(dir)
	return nil
}
