// Package alertmanager delivers messages to Prometheus Alertmanager by its API v2.
// Alerts go there with their own labels, so that a repetition is the same alert there.
package alertmanager
