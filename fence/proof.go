package fence

import (
	"errors"
	"fmt"
	"time"
)

// MinGap is the least time between the two readings of a proof (S9).
const MinGap = time.Second

// keepReadings bounds what a proof or an error carries into the replicated state.
const keepReadings = 16

// Reading is one power state as the controller gave it.
type Reading struct {
	At    time.Time  `json:"at"` // when the answer was here
	State PowerState `json:"state"`
}

// Proof says that a machine was off, by whose word, and read when. It proves the
// time of its last reading: nobody promises that the machine stays off.
type Proof struct {
	Driver     string    `json:"driver"`
	Address    string    `json:"address"`
	Identity   string    `json:"identity"`   // as the controller gave it
	Readings   []Reading `json:"readings"`   // the last ones, oldest first
	AlreadyOff bool      `json:"alreadyOff"` // it was off without an order of ours
}

// Check reports whether the proof holds by S9: an identity, and two readings of
// off at least MinGap apart with nothing else read in between, at the end.
func (p Proof) Check() error {
	if !UsableIdentity(p.Identity) {
		return errors.New("check proof: the machine's identity is missing")
	}
	n := len(p.Readings)
	if n < 2 {
		return fmt.Errorf("check proof: %d readings, at least 2 are needed", n)
	}
	last := p.Readings[n-1]
	for i := n - 1; i >= 0 && p.Readings[i].State == Off; i-- {
		if last.At.Sub(p.Readings[i].At) >= MinGap {
			return nil
		}
	}
	return fmt.Errorf("check proof: the machine was not read off twice at least %s apart", MinGap)
}
