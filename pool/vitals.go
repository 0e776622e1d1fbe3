package pool

import (
	"fmt"
	"time"

	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/probe"
)

// States that an operator can give an endpoint.
const (
	StateUp    = "up"    // as its health says; takes every other state back
	StateDown  = "down"  // not picked
	StateDrain = "drain" // not picked; what is in flight may finish within drain_timeout
)

// States that Status shows beside those.
const (
	StateUnknown   = "unknown"    // no verdict yet
	StateEjected   = "ejected"    // real exchanges failed
	StateSlowStart = "slow_start" // came back or is new, and gets less than its share
)

// Numbers of passive health.
const (
	// brokenMax broken or timed-out exchanges in a row, with no answer between them, eject. One alone happens to
	// every server that restarts a worker.
	brokenMax = 3
	// backoffFirst doubles with every ejection in a row up to backoffMax: a dead endpoint then sees two trials a minute.
	backoffFirst = time.Second
	backoffMax   = 30 * time.Second
	// forgiveAfter, on top of twice the last backoff, is how long an endpoint must serve until its ejections are forgotten.
	forgiveAfter = 30 * time.Second
	// seldom is the share that an endpoint gets at the start of slow start, on trial, and when it should be out but the
	// pool cannot do without it. Envoy's slow start begins with the same 10%.
	seldom = 0.1
	// trialRamp is the least slow start after an ejection that no probe could end.
	trialRamp = 5 * time.Second
	// throttleStep is what one 429 or 503 takes from an endpoint's share, and calmFor how long further
	// ones are then passed over, so that a burst counts once.
	throttleStep = 0.7
	calmFor      = 100 * time.Millisecond
	// throttleFor is how long the share takes to come back when the answer gave no Retry-After, and
	// throttleMax how much of a Retry-After is believed.
	throttleFor = 5 * time.Second
	throttleMax = time.Minute
)

// vitals is everything that decides whether one endpoint may be picked and how much it gets. It is a pure state machine:
// time comes in as an argument. It belongs to whoever holds the pool's lock.
type vitals struct {
	health probe.Health
	probed bool // verdicts are expected; an endpoint without probes counts as healthy
	admin  string
	left   bool // no longer a member
	held   hold // what people want of its breaker

	ejected   bool
	reluctant bool // should be ejected, but the pool cannot do without it
	strikes   int  // ejections in a row
	until     time.Time
	proof     int // verdict since the ejection: 1 good, -1 bad, 0 none
	trial     bool
	backAt    time.Time

	byAnswers bool // this ejection is one of convict's
	terms     int  // ejections by answers in a row
	term      time.Duration
	doubt     float64 // share left while answers look bad; 0: nothing taken
	probation probation
	lean      float64 // share that utilisation leaves; 0: it says nothing

	rampFrom time.Time
	ramp     time.Duration

	throttle     float64 // share left by 429 and 503; 0: nothing taken
	throttleFrom time.Time
	throttleFor  time.Duration

	drainFrom time.Time
	drained   bool // the end of draining was reported

	why   string
	since time.Time
	shown string // the state last reported
}

// known says whether something is known about the endpoint's health.
func (v *vitals) known() bool { return !v.probed || v.health.Known() || v.ejected }

// allowed says whether operator and membership let the endpoint be picked at all.
func (v *vitals) allowed() bool { return v.admin == StateUp && !v.left && v.held.state != BreakerOpen }

// sick says whether probes find it so.
func (v *vitals) sick() bool { return v.probed && v.health.Known() && !v.health.Up() }

// healthy says whether the endpoint counts as capacity.
func (v *vitals) healthy() bool {
	return v.allowed() && !v.ejected && (!v.probed || v.health.Up())
}

// state is the word that Status shows.
func (v *vitals) state(now time.Time) string {
	switch {
	case v.left || v.admin == StateDrain:
		return StateDrain
	case v.admin == StateDown:
		return StateDown
	case v.held.state == BreakerOpen:
		return StateEjected
	case v.sick():
		return StateDown
	case v.ejected:
		return StateEjected
	case v.probed && !v.health.Known():
		return StateUnknown
	case v.ramping(now) || v.probation.on:
		return StateSlowStart
	}
	return StateUp
}

func (v *vitals) ramping(now time.Time) bool {
	return !v.rampFrom.IsZero() && now.Sub(v.rampFrom) < v.ramp
}

// factor is the part of its weight that the endpoint gets now: from 0.1 to 1.
func (v *vitals) factor(now time.Time) float64 {
	f := 1.0
	if v.ramping(now) {
		f = seldom + (1-seldom)*float64(max(now.Sub(v.rampFrom), 0))/float64(v.ramp)
	}
	f *= v.open(now)
	if v.lean != 0 {
		f *= v.lean
	}
	if v.ejected || v.reluctant || v.probation.on {
		f = seldom
	}
	return max(f, seldom)
}

// believed is the part that a doubt about answers left of the share.
func (v *vitals) believed() float64 {
	if v.doubt == 0 {
		return 1
	}
	return v.doubt
}

// open is what 429 and 503 answers left, on its way back to 1.
func (v *vitals) open(now time.Time) float64 {
	if v.throttle == 0 {
		return 1
	}
	gone := float64(now.Sub(v.throttleFrom)) / float64(v.throttleFor)
	return min(1, v.throttle+(1-v.throttle)*max(gone, 0))
}

// restless says whether time alone will change what is picked, so that the pool must look again.
func (v *vitals) restless(now time.Time) bool {
	return v.ejected || v.reluctant || v.probation.on || v.doubt != 0 || v.ramping(now) || v.throttle != 0 ||
		v.held.state != "" || (v.left || v.admin == StateDrain) && !v.drained
}

// verdict takes the result of one probe in. fresh says that nothing is known of the pool yet: an
// endpoint that is well from the start needs no slow start.
func (v *vitals) verdict(now time.Time, got probe.Verdict, slow time.Duration, fresh bool) {
	changed := v.health.Step(got)
	if got.Void {
		return
	}
	if v.ejected || v.reluctant {
		v.proof = -1
		if got.Healthy {
			v.proof = 1
		}
		if got.Healthy && (v.strikes == 1 && !v.byAnswers || !now.Before(v.until)) {
			v.comeBack(now, slow, "probe passed after ejection: "+got.Reason)
		}
	}
	if !changed {
		return
	}
	why := "probe failed: " + got.Reason
	if v.health.Up() {
		why = "probe passed: " + got.Reason
	}
	if v.allowed() { // else people took it out, whatever probes say
		v.why = why
	}
	if v.health.Up() {
		if !fresh {
			v.rampFrom, v.ramp = now, slow
		}
	}
}

// fail takes one exchange without an answer in. mayEject tells whether the pool can do without the
// endpoint; it is asked only when the endpoint is to go. It reports whether something changed.
func (v *vitals) fail(now time.Time, kind exchange.ResultKind, row int, mayEject func() bool) bool {
	if kind != exchange.ConnectFailed && row < brokenMax && !v.trial {
		return false
	}
	if v.ejected || v.reluctant && now.Before(v.until) {
		return false // already answered; requests in flight since then tell nothing new
	}
	if v.strikes > 0 && now.Sub(v.backAt) > 2*backoff(v.strikes)+forgiveAfter {
		v.strikes = 0
	}
	v.strikes++
	v.until, v.proof, v.trial = now.Add(backoff(v.strikes)), 0, false
	v.byAnswers, v.probation, v.doubt = false, probation{}, 0
	what := "connect failed"
	switch {
	case kind == exchange.ConnectFailed:
	case row < brokenMax:
		what = "failed on trial"
	default:
		what = fmt.Sprintf("%d exchanges in a row without an answer", row)
	}
	if v.healthy() && mayEject() {
		v.ejected = true
		v.why = fmt.Sprintf("%s; ejected %s", what, v.out())
		return true
	}
	v.reluctant = true
	v.why = what + "; picked seldom, as the pool cannot do without it"
	return true
}

// out is how long an ejection lasts in words.
func (v *vitals) out() string {
	switch {
	case v.strikes > 1:
		return fmt.Sprintf("for %v, the %s time in a row", backoff(v.strikes), ordinal(v.strikes))
	case v.probed:
		return fmt.Sprintf("until a probe passes, or for a trial in %v", backoff(1))
	}
	return fmt.Sprintf("for %v", backoff(1))
}

func ordinal(n int) string {
	switch {
	case n%100/10 != 1 && n%10 == 1:
		return fmt.Sprintf("%dst", n)
	case n%100/10 != 1 && n%10 == 2:
		return fmt.Sprintf("%dnd", n)
	case n%100/10 != 1 && n%10 == 3:
		return fmt.Sprintf("%drd", n)
	}
	return fmt.Sprintf("%dth", n)
}

// backoff is how long the n-th ejection in a row lasts.
func backoff(n int) time.Duration {
	return min(backoffFirst<<min(n-1, 10), backoffMax)
}

// comeBack ends an ejection: the endpoint is on trial until its first answer, and gets little at first.
func (v *vitals) comeBack(now time.Time, slow time.Duration, why string) {
	v.ejected, v.reluctant, v.trial = false, false, !v.byAnswers
	v.probation.on, v.byAnswers = v.byAnswers, false
	v.backAt = now
	if !v.probed || v.health.Up() {
		v.why = why // else it is still down, and why stands there
	}
	v.rampFrom, v.ramp = now, slow
	if v.proof <= 0 {
		v.ramp = max(slow, trialRamp)
	}
}

// answered ends a trial well.
func (v *vitals) answered() { v.trial = false }

// pushBack lowers the share after a 429 or 503. An endpoint that says it is overloaded is never ejected for
// it: its load would fall on the others, which are as likely overloaded.
func (v *vitals) pushBack(now time.Time, after time.Duration) {
	v.throttle = max(seldom, v.open(now)*throttleStep)
	v.throttleFrom, v.throttleFor = now, throttleFor
	if after > 0 {
		v.throttleFor = min(after, throttleMax)
	}
}

// tick lets time pass: ejections end and pushing back is forgotten. It reports whether the endpoint may be picked again.
func (v *vitals) tick(now time.Time, slow time.Duration) (changed bool) {
	if v.throttle != 0 && v.open(now) >= 1 {
		v.throttle = 0
	}
	if v.heldOver(now, slow) {
		return true
	}
	if !v.ejected && !v.reluctant || now.Before(v.until) {
		return false
	}
	// A probe that failed since then speaks against a trial, but not for ever: probes may look at something else.
	if v.proof < 0 && now.Sub(v.until) < backoffMax {
		return false
	}
	why := "on trial after ejection"
	if v.proof > 0 {
		why = "back after ejection; probes pass"
	}
	v.comeBack(now, slow, why)
	return true
}
