// Package domxml reads out of a libvirt domain definition what Lifeboat must
// know before it starts the domain on another host, and nothing else.
//
// The definition itself travels byte for byte and is never re-rendered (S23);
// this package only looks at it. It therefore declares just the elements it
// needs instead of using the full schema in libvirtxml: a definition with an
// element or a value that this version has never heard of must stay readable.
//
// Callers: agent, hypervisor drivers, cmd/lifeboat. It blocks on nothing.
package domxml
