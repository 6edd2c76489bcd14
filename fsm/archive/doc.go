// Package archive is the file format of a backup: the replicated state with its
// metadata and checksums in one compressed file.
//
// An archive is a zstd stream of a tar of three files, in this order: meta.json
// (Meta), state.bin (the snapshot format of fsm) and SHA256SUMS (of the two).
// Read checks everything that can be checked without a cluster, and returns what
// it read or an ErrArchive that says what is wrong; it never returns a part.
// Where it is kept it may be encrypted with age as a whole (Seal, Open).
// Nodes write archives, the command line checks them offline.
package archive
