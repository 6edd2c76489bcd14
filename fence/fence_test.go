package fence

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

const machine = "0a1b2c3d-4e5f-4678-8abc-def012345678"

// scripted is a controller in virtual time: power is a function of the time
// since the start and of the orders so far; failures are scripted too.
type scripted struct {
	identity string
	power    func(at time.Duration, d *scripted) (PowerState, error)
	off      func(d *scripted) error
	latency  time.Duration

	start  time.Time
	offAt  []time.Duration
	reads  int
	log    []Reading // what was really answered; errors as Unknown
	events []string
}

func (d *scripted) Endpoint() Endpoint { return Endpoint{Driver: "scripted", Address: "bmc1"} }
func (d *scripted) since() time.Duration {
	return time.Since(d.start)
}

func (d *scripted) delay(ctx context.Context) error { return wait(ctx, d.latency) }

func (d *scripted) Identity(ctx context.Context) (string, error) {
	d.start = time.Now()
	d.events = append(d.events, "identity")
	if err := d.delay(ctx); err != nil {
		return "", err
	}
	if d.identity == "" {
		return machine, nil
	}
	return d.identity, nil
}

func (d *scripted) Power(ctx context.Context) (PowerState, error) {
	d.events = append(d.events, "power")
	d.reads++
	if err := d.delay(ctx); err != nil {
		return Unknown, err
	}
	state, err := d.power(d.since(), d)
	logged := state
	if err != nil {
		logged = Unknown
	}
	d.log = append(d.log, Reading{At: time.Now(), State: logged})
	return state, err
}

func (d *scripted) Off(ctx context.Context) error {
	d.events = append(d.events, "off")
	d.offAt = append(d.offAt, d.since())
	if err := d.delay(ctx); err != nil {
		return err
	}
	if d.off != nil {
		return d.off(d)
	}
	return nil
}

func (d *scripted) On(context.Context) error { return nil }

func (d *scripted) orders() int { return len(d.offAt) }

// obeys is a sound machine that takes some time to go off after an order.
func obeys(after time.Duration) func(time.Duration, *scripted) (PowerState, error) {
	return func(at time.Duration, d *scripted) (PowerState, error) {
		if d.orders() > 0 && at-d.offAt[0] >= after {
			return Off, nil
		}
		return On, nil
	}
}

func always(s PowerState) func(time.Duration, *scripted) (PowerState, error) {
	return func(time.Duration, *scripted) (PowerState, error) { return s, nil }
}

func fenceIn(t *testing.T, d *scripted, limit time.Duration) (Proof, error) {
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	return Fence(ctx, d, Expect{Identity: machine}, nil)
}

func wantReason(t *testing.T, err error, want Reason) *Error {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("error is %v, want an *Error with reason %q", err, want)
	}
	if e.Reason != want || !errors.Is(err, want) {
		t.Fatalf("reason is %q, want %q: %v", e.Reason, want, err)
	}
	return e
}

func TestS9_OffIsReadTwiceBeforeItIsProof(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &scripted{power: obeys(2 * time.Second), latency: 30 * time.Millisecond}
		p, err := fenceIn(t, d, time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Check(); err != nil || p.AlreadyOff || p.Identity != machine || p.Address != "bmc1" {
			t.Fatalf("proof %+v: %v", p, err)
		}
		n := len(d.log)
		if gap := d.log[n-1].At.Sub(d.log[n-2].At); gap < MinGap {
			t.Fatalf("readings %s apart", gap)
		}
		if d.orders() != 1 {
			t.Fatalf("%d orders, want 1", d.orders())
		}
	})
}

func TestS9_AlreadyOffNeedsNoOrderButBothReadings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &scripted{power: always(Off)}
		p, err := fenceIn(t, d, 10*time.Second)
		if err != nil || !p.AlreadyOff || d.orders() != 0 || d.reads != 2 {
			t.Fatalf("proof %+v, orders %d, reads %d: %v", p, d.orders(), d.reads, err)
		}
	})
}

func TestS9_AnotherMachineGetsNoOrder(t *testing.T) {
	for _, c := range []struct {
		name, got, want string
		reason          Reason
	}{
		{"other", "ffffffff-4e5f-4678-8abc-def012345678", machine, IdentityMismatch},
		{"nothing expected", machine, "", IdentityMismatch},
		{"placeholder on both sides", "00000000-0000-0000-0000-000000000000", "00000000-0000-0000-0000-000000000000", IdentityUnknown},
		{"maker's text", "To be filled by O.E.M.", machine, IdentityUnknown},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := &scripted{identity: c.got, power: always(Off)}
				_, err := Fence(t.Context(), d, Expect{Identity: c.want}, nil)
				e := wantReason(t, err, c.reason)
				if got := strings.Join(d.events, " "); got != "identity" || e.OffSent {
					t.Fatalf("asked %q, OffSent %v; want the identity only", got, e.OffSent)
				}
			})
		})
	}
}

func TestALyingControllerIsCaught(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &scripted{power: always(On)}
		_, err := fenceIn(t, d, 12*time.Second)
		e := wantReason(t, err, StillOn)
		if !e.OffSent || !strings.Contains(e.Error(), "after 12s the machine reads on") {
			t.Fatal(e)
		}
		if d.orders() != 3 { // at 0, 5 and 10 s
			t.Fatalf("%d orders", d.orders())
		}
	})
}

func TestFlappingIsNoProof(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &scripted{power: func(_ time.Duration, d *scripted) (PowerState, error) {
			if d.reads%2 == 1 {
				return Off, nil
			}
			return On, nil
		}}
		_, err := fenceIn(t, d, 20*time.Second)
		wantReason(t, err, StillOn)
	})
}

func TestAnUnreadStateBreaksTheRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &scripted{power: func(_ time.Duration, d *scripted) (PowerState, error) {
			if d.reads%2 == 0 {
				return Unknown, Because(Unreachable, "lost")
			}
			return Off, nil
		}}
		_, err := fenceIn(t, d, 20*time.Second)
		wantReason(t, err, Deadline)
	})
}

func TestRefusedOrdersEndTheAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &scripted{power: always(On), off: func(*scripted) error { return Because(Refused, "Unspecified error") }}
		_, err := fenceIn(t, d, time.Minute)
		e := wantReason(t, err, Refused)
		if d.orders() != tries || e.Took > 5*time.Second || !e.OffSent || e.Stage != StageOff {
			t.Fatalf("orders %d, took %s: %v", d.orders(), e.Took, e)
		}
	})
}

func TestAnOrderThatFailsButWorksIsProven(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &scripted{power: obeys(0), off: func(*scripted) error { return Because(Refused, "409") }}
		if p, err := fenceIn(t, d, time.Minute); err != nil || p.AlreadyOff {
			t.Fatalf("%+v %v", p, err)
		}
	})
}

func TestLoginRefusedEndsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &scripted{power: always(On), off: func(*scripted) error { return Because(AuthFailed, "no privilege") }}
		_, err := fenceIn(t, d, time.Minute)
		if e := wantReason(t, err, AuthFailed); d.orders() != 1 || e.Took > time.Second {
			t.Fatalf("%d orders in %s", d.orders(), e.Took)
		}
	})
}

func TestBlipsAreRidOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &scripted{}
		d.power = func(at time.Duration, d *scripted) (PowerState, error) {
			if d.reads == 2 || d.reads == 3 {
				return Unknown, Because(Unreachable, "the controller restarts")
			}
			return obeys(time.Second)(at, d)
		}
		if _, err := fenceIn(t, d, time.Minute); err != nil {
			t.Fatal(err)
		}
	})
}

func TestSilenceEndsWithinTheDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		d := &scripted{power: always(Off), latency: time.Hour}
		_, err := fenceIn(t, d, 4*time.Second)
		wantReason(t, err, Deadline)
		if took := time.Since(start); took != 4*time.Second {
			t.Fatalf("took %s", took)
		}
		_, err = Fence(t.Context(), &scripted{power: always(Off), latency: time.Hour}, Expect{Identity: machine}, nil)
		wantReason(t, err, Unreachable) // callLimit, as there is no deadline
	})
}

func TestNoDeadlineIsStillBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		_, err := Fence(t.Context(), &scripted{power: always(On)}, Expect{Identity: machine}, nil)
		wantReason(t, err, StillOn)
		if time.Since(start) != patience {
			t.Fatal(time.Since(start))
		}
	})
}

func TestS10_CancelReturnsAtOnceAndTellsOfTheOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(3*time.Second, func() { cancel(errors.New("the term ended")) })
		start := time.Now()
		_, err := Fence(ctx, &scripted{power: always(On)}, Expect{Identity: machine}, nil)
		e := wantReason(t, err, Cancelled)
		if time.Since(start) != 3*time.Second || !e.OffSent || !strings.Contains(e.Error(), "the term ended") {
			t.Fatalf("%s: %v", time.Since(start), e)
		}
	})
}

func TestConfirmGivesNoOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		on := &scripted{power: always(On)}
		_, err := Confirm(t.Context(), on, Expect{Identity: machine}, nil)
		if e := wantReason(t, err, StillOn); e.OffSent || on.orders() != 0 {
			t.Fatal(e)
		}
		unknown := &scripted{power: always(Unknown)}
		_, err = Confirm(t.Context(), unknown, Expect{Identity: machine}, nil)
		wantReason(t, err, StillOn)
		off := &scripted{power: always(Off)}
		var seen int
		p, err := Confirm(t.Context(), off, Expect{Identity: machine}, func(Reading) { seen++ })
		if err != nil || !p.AlreadyOff || off.orders() != 0 || seen != 2 {
			t.Fatalf("%+v %v", p, err)
		}
	})
}

func TestProbeReadsOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &scripted{power: always(On)}
		id, r, err := Probe(t.Context(), d, Expect{Identity: strings.ToUpper(machine)})
		if err != nil || id != machine || r.State != On || d.orders() != 0 {
			t.Fatal(id, r, err)
		}
		id, _, err = Probe(t.Context(), &scripted{identity: "serial-7", power: always(On)}, Expect{Identity: machine})
		if e := wantReason(t, err, IdentityMismatch); id != "serial-7" || e.Got != id {
			t.Fatal(id, e) // what the controller gave is needed to correct the mistake
		}
	})
}

// Whatever a controller answers and whenever: a proof is only given when its own
// last two answers were off and far enough apart, with nothing in between.
func TestS9_ProofMeansOffTwice(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		answers := rapid.SliceOfN(rapid.SampledFrom([]string{"on", "off", "off", "off", "unknown", "error"}), 1, 30).Draw(rt, "answers")
		refuse := rapid.SliceOfN(rapid.Bool(), 1, 10).Draw(rt, "refuse")
		latency := time.Duration(rapid.IntRange(0, 1500).Draw(rt, "latency")) * time.Millisecond
		limit := time.Duration(rapid.IntRange(1, 30_000).Draw(rt, "limit")) * time.Millisecond
		passive := rapid.Bool().Draw(rt, "passive")
		synctest.Test(t, func(t *testing.T) {
			d := &scripted{latency: latency}
			d.power = func(_ time.Duration, d *scripted) (PowerState, error) {
				switch a := answers[(d.reads-1)%len(answers)]; a {
				case "error":
					return Off, Because(Unreachable, "error that carries a state")
				default:
					return PowerState(a), nil
				}
			}
			d.off = func(d *scripted) error {
				if refuse[d.orders()%len(refuse)] {
					return Because(Refused, "no")
				}
				return nil
			}
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			defer cancel()
			run := Fence
			if passive {
				run = Confirm
			}
			start := time.Now()
			p, err := run(ctx, d, Expect{Identity: machine}, nil)
			if took := time.Since(start); took > limit {
				rt.Fatalf("took %s of %s", took, limit)
			}
			if passive && d.orders() > 0 {
				rt.Fatalf("Confirm gave %d orders", d.orders())
			}
			n := len(d.log)
			proven := n >= 2 && d.log[n-1].State == Off && d.log[n-2].State == Off && d.log[n-1].At.Sub(d.log[n-2].At) >= MinGap
			if err == nil && (!proven || p.Check() != nil || p.AlreadyOff != (d.orders() == 0)) {
				rt.Fatalf("proof %+v from %v", p, d.log)
			}
			if e := (*Error)(nil); err != nil && (!errors.As(err, &e) || fmt.Sprint(p) != fmt.Sprint(Proof{})) {
				rt.Fatalf("error %v with proof %+v", err, p)
			}
		})
	})
}

func TestProofCheck(t *testing.T) {
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	read := func(ms int, s PowerState) Reading { return Reading{at.Add(time.Duration(ms) * time.Millisecond), s} }
	for name, c := range map[string]struct {
		p    Proof
		good bool
	}{
		"sound":             {Proof{Identity: machine, Readings: []Reading{read(0, Off), read(1000, Off)}}, true},
		"too close":         {Proof{Identity: machine, Readings: []Reading{read(0, Off), read(999, Off)}}, false},
		"on in between":     {Proof{Identity: machine, Readings: []Reading{read(0, Off), read(500, On), read(1500, Off)}}, false},
		"on at the end":     {Proof{Identity: machine, Readings: []Reading{read(0, Off), read(1500, Off), read(1600, On)}}, false},
		"one reading":       {Proof{Identity: machine, Readings: []Reading{read(0, Off)}}, false},
		"no identity":       {Proof{Readings: []Reading{read(0, Off), read(1000, Off)}}, false},
		"clock stepped":     {Proof{Identity: machine, Readings: []Reading{read(2000, Off), read(0, Off)}}, false},
		"close, then apart": {Proof{Identity: machine, Readings: []Reading{read(0, On), read(100, Off), read(600, Off), read(1100, Off)}}, true},
	} {
		if err := c.p.Check(); (err == nil) != c.good {
			t.Errorf("%s: %v", name, err)
		}
	}
}
