package pgcoord

import "runtime/debug"

// modulePath is the library's own, as builds record it.
const modulePath = "github.com/getpup/pupsourcing-orchestrator/v2"

// LibraryVersion returns the library's version as recorded by the build. Workers store it in library_version.
func LibraryVersion() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	if info.Main.Path == modulePath {
		return info.Main.Version
	}
	for _, dep := range info.Deps {
		if dep.Path == modulePath {
			return dep.Version
		}
	}
	return "unknown"
}
