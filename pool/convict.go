package pool

import (
	"fmt"
	"time"

	"github.com/even-keel/evenkeel/site"
)

// Numbers of the time after an ejection by answers.
const (
	// trialGood good answers in a row of trial end it; trialFails failures or trialSlow slow answers before that eject again. A slow answer
	// says less, as some are slow everywhere.
	trialGood  = 5
	trialFails = 2
	trialSlow  = 3
)

// probation is the time after an ejection by answers: one request at a time, until a few answers have decided.
type probation struct {
	on        bool
	slow      bool // ejected for being slow
	good, bad int
}

// convict ejects because of answers. mayEject tells whether the pool can do without the endpoint.
func (v *vitals) convict(now time.Time, o site.Outliers, got finding, mayEject func() bool) {
	if v.terms > 0 && now.Sub(v.backAt) > 2*v.term+forgiveAfter {
		v.terms = 0
	}
	v.terms++
	v.term = min(o.First*time.Duration(v.terms), o.Max)
	v.until, v.proof, v.trial, v.doubt = now.Add(v.term), 0, false, 0
	v.byAnswers, v.probation = true, probation{slow: got.slow}
	if !mayEject() {
		v.reluctant = true
		v.why = got.why + "; picked seldom, as the pool cannot do without it"
		return
	}
	v.ejected = true
	v.why = fmt.Sprintf("%s; ejected for %v", got.why, v.term)
	if v.terms > 1 {
		v.why += fmt.Sprintf(", the %s time in a row", ordinal(v.terms))
	}
}

// acquit takes back what answers did to the share and the place of an endpoint, once the site file does not go by them any more: judged says that endpoints
// still are judged beside one another, bounded that fixed bounds hold. Nobody would end it else, as nobody looks at answers then. It reports whether it took anything back.
func (v *vitals) acquit(now time.Time, slow time.Duration, judged, bounded bool) (changed bool) {
	if !judged && v.doubt != 0 {
		v.doubt, changed = 0, true
	}
	if judged || bounded {
		return changed
	}
	const why = "answers eject no more, by the site file"
	switch {
	case v.byAnswers && (v.ejected || v.reluctant):
		v.byAnswers = false
		v.comeBack(now, slow, why)
	case v.probation.on:
		v.probation, v.why = probation{}, why
	default:
		return changed
	}
	return true
}

// tried takes an answer on probation in. again says that the endpoint has to go again.
func (v *vitals) tried(now time.Time, failed, slow bool, ramp time.Duration) (again bool) {
	t := &v.probation
	if !failed && !slow {
		if t.good++; t.good >= trialGood {
			*t = probation{}
			v.rampFrom, v.ramp = now, max(ramp, trialRamp)
			v.why = "answers well again after ejection"
		}
		return false
	}
	t.bad++
	if failed && !t.slow {
		return t.bad >= trialFails
	}
	return t.bad >= trialSlow
}
