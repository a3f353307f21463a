// Package observe tests what people see in the programs that they see it in: the status page in Chromium, and the metrics, the dashboard and the alerts in
// Prometheus. It is a module of its own, so that users of the library do not get what it needs.
package observe
