package wire

import (
	"strings"
	"time"

	lifeboatv1 "lifeboat/api/lifeboat/v1"
	"lifeboat/fence"
)

const (
	// maxReadings, maxText and maxTime bound what an executor may say.
	maxReadings = 64
	maxText     = 1000
	maxTime     = time.Hour
)

// Job writes a job about a host's power controller. It holds the password.
func Job(host string, nonce uint64, j fence.Job) *lifeboatv1.FenceJob {
	t := j.Target
	return &lifeboatv1.FenceJob{
		Nonce: nonce, HostId: host, Task: string(j.Task), Driver: t.Driver, Address: t.Address, User: t.User,
		Password: t.Password.Reveal(), Options: t.Options, Identity: j.Expect.Identity, ReachMs: j.Expect.Reach.Milliseconds(),
	}
}

// ReadJob reads a job.
func ReadJob(p *lifeboatv1.FenceJob) fence.Job {
	return fence.Job{
		Task: fence.Task(p.GetTask()),
		Target: fence.Target{Driver: p.GetDriver(), Address: p.GetAddress(), User: p.GetUser(),
			Password: fence.NewSecret(p.GetPassword()), Options: p.GetOptions()},
		Expect: fence.Expect{Identity: p.GetIdentity(), Reach: millis(p.GetReachMs())},
	}
}

// Within is how long after the sign that the request answers the job must have
// ended.
func Within(p *lifeboatv1.FenceJob) time.Duration { return millis(p.GetWithinMs()) }

// Outcome writes an outcome of a job.
func Outcome(p *lifeboatv1.FenceJob, term uint64, o fence.Outcome) *lifeboatv1.FenceOutcome {
	out := &lifeboatv1.FenceOutcome{
		Nonce: p.GetNonce(), HostId: p.GetHostId(), Term: term, Identity: o.Identity, AlreadyOff: o.AlreadyOff, TookMs: o.Took.Milliseconds(),
		OffSent: o.OffSent, Failure: o.Failure, Reason: string(o.Reason), Stage: string(o.Stage),
	}
	for _, r := range o.Readings {
		out.Readings = append(out.Readings, &lifeboatv1.FenceReading{AfterMs: r.After.Milliseconds(), State: string(r.State)})
	}
	return out
}

// ReadOutcome reads an outcome. What the executor cannot mean is taken for a
// failure, never for a reading.
func ReadOutcome(p *lifeboatv1.FenceOutcome) fence.Outcome {
	o := fence.Outcome{
		Identity: text(p.GetIdentity()), AlreadyOff: p.GetAlreadyOff(), Took: millis(p.GetTookMs()), OffSent: p.GetOffSent(),
		Failure: text(p.GetFailure()), Reason: fence.Reason(text(p.GetReason())), Stage: fence.Stage(text(p.GetStage())),
	}
	last := time.Duration(0)
	for i, r := range p.GetReadings() {
		after := millis(r.GetAfterMs())
		if i == maxReadings || after < last || after > o.Took {
			return fence.Outcome{Failure: "its executor gave readings that cannot be", Reason: fence.Refused, OffSent: o.OffSent}
		}
		state := fence.PowerState(r.GetState())
		if state != fence.On && state != fence.Off {
			state = fence.Unknown
		}
		o.Readings = append(o.Readings, fence.Read{After: after, State: state})
		last = after
	}
	return o
}

func millis(ms int64) time.Duration {
	return time.Duration(min(max(ms, 0), maxTime.Milliseconds())) * time.Millisecond
}

func text(s string) string {
	if len(s) > maxText {
		s = s[:maxText]
	}
	return strings.ToValidUTF8(s, "?")
}
