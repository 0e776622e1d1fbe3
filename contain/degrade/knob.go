// Package degrade holds the switches by which an application gives up features before requests have to be refused.
package degrade

import (
	"time"

	"github.com/even-keel/evenkeel/site"
)

// Hold is somebody's word on a switch, for a while.
type Hold struct {
	On    bool
	Until time.Time // zero: there is none
	By    string    // hand, or the name of what else turns switches
}

// Knob decides whether one switch is on. It is pure: time comes in as an argument.
type Knob struct {
	cfg     site.Switch
	hold    Hold
	auto    bool      // on by itself
	cause   string    // why it is, or was last
	pressed time.Time // there is a cause since then; zero: there is none
	calm    time.Time // … or was last
}

// Step takes in what there is to turn the switch on, in a sentence, empty for nothing, and says whether the switch is on from now on, and why.
func (k *Knob) Step(now time.Time, cause string) (on bool, why string) {
	if cause != "" {
		k.cause = cause
	}
	switch {
	case k.cfg.Pool == "" && len(k.cfg.Alerts) == 0:
		k.auto, k.pressed = false, time.Time{}
	case cause != "" && k.pressed.IsZero():
		k.pressed, k.calm = now, time.Time{}
	case cause == "" && k.calm.IsZero():
		k.pressed, k.calm = time.Time{}, now
	}
	if cause != "" && !k.pressed.IsZero() && now.Sub(k.pressed) >= k.cfg.After {
		k.auto = true
	}
	if k.auto && cause == "" && now.Sub(k.calm) >= k.cfg.Back {
		k.auto = false
	}
	if !k.hold.Until.After(now) {
		k.hold = Hold{}
	} else if k.hold.On {
		return true, "set on by " + k.hold.By
	} else {
		return false, "set off by " + k.hold.By
	}
	switch {
	case k.auto:
		return true, k.cause
	case k.cfg.Pool != "" && len(k.cfg.Alerts) > 0:
		return false, "pool " + k.cfg.Pool + " is well, and none of its alerts fires"
	case k.cfg.Pool != "":
		return false, "pool " + k.cfg.Pool + " is well"
	case len(k.cfg.Alerts) > 0:
		return false, "none of its alerts fires"
	}
	return false, "nobody has set it"
}
