// Package cloudstack finds what a CloudStack usage server bills although it has ended:
// rules and snapshots whose delete was told and never reached the row that is billed
// from, and networks with more than one such row. From exports of its tables it says
// how much each account was billed too much, and writes SQL that mends the tables, with
// SQL that takes it back. It is pure: it reads no database and opens no file.
//
// Only what an event proves is mended. A row without a delete event is named if its
// resource is not among those that live, and left as it is.
package cloudstack
