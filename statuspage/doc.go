// Package statuspage shows a replica set in a browser: its workers and what each owns, how far each projection is, what failed, what somebody has paused, and
// what happened. It reads the tables, so a replica set without workers is visible too.
//
//	a, err := admin.New(db, eventStore, "main-projections")
//	mux.Handle("/status/", statuspage.New(a))
//
// The handler works at any path, with or without http.StripPrefix and behind a proxy that changes paths, since all its addresses are query strings. It needs no
// JavaScript; with it, the page refreshes itself.
//
// By default everybody who reaches the handler may read, and nobody may act or see payloads. See WithAccess.
//
// However many people watch, the database is asked once in an interval (WithInterval), and not at all while nobody watches.
package statuspage
