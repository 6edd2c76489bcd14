// Package durable writes small files such as keys and configurations as a whole or
// not at all, whatever crashes. Anybody may call it; it blocks until the disk has
// them.
package durable
