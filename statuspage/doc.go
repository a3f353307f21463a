// Package statuspage shows a replica set in a browser. It shows the workers and their partitions, how far each
// projection is, what failed, what is paused, and what happened. It reads the tables, so it also shows a replica set
// without workers.
//
//	a, err := admin.New(db, eventStore, "main-projections")
//	mux.Handle("/status/", statuspage.New(a))
//
// The handler works at any path, with or without http.StripPrefix and behind a proxy that changes paths, since all its
// links are query strings. It does not need JavaScript. With JavaScript, the page refreshes itself.
//
// By default everybody who reaches the handler may read, and nobody may act or see payloads. See WithAccess.
//
// The page asks the database once per interval (see WithInterval), however many people watch, and not at all while
// nobody does.
package statuspage
