// Package exports runs the files of migrations.Export through the tools that they are for. It is a module of its own, so that users of the library
// do not get the tools.
package exports
