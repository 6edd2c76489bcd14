// Package configfile helps people with the configuration files of server and
// agent: it has a complete one with every key explained, and checks one together
// with the machine it is on.
//
// What the keys are and which values they take is node's and agent's business.
// A check reads files and looks names up; it changes nothing, takes no lock and
// talks to no other program. The command line calls it.
package configfile
