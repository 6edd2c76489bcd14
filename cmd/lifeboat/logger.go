package main

import (
	"io"

	"github.com/hashicorp/go-hclog"
)

// newLogger logs to w; empty words mean info and text.
func newLogger(w io.Writer, name, level, format string) hclog.Logger {
	if level == "" {
		level = "info"
	}
	return hclog.New(&hclog.LoggerOptions{Name: name, Level: hclog.LevelFromString(level), Output: w, JSONFormat: format == "json"})
}
