// Package notifytest is what every driver of notifications must do, as tests: a
// message arrives whole and again under the same id, a refusal is an error without the
// secret, and a driver ends with its context. Only tests import it.
package notifytest
