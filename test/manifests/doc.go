// Package manifests reads the manifests of examples/kubernetes as Kubernetes does, and tries their probes against the program that they run. It is a module
// of its own, so that users of the library do not get Kubernetes' types.
package manifests
