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
	pressed time.Time // the pool is overloaded since then; zero: it is not
	calm    time.Time // … or was last
}

// Step takes in whether the pool is overloaded as the switch wants it, and says whether the switch is on from now on, and why.
func (k *Knob) Step(now time.Time, pressed bool) (on bool, why string) {
	switch {
	case k.cfg.Pool == "":
		k.auto, k.pressed = false, time.Time{}
	case pressed && k.pressed.IsZero():
		k.pressed, k.calm = now, time.Time{}
	case !pressed && k.calm.IsZero():
		k.pressed, k.calm = time.Time{}, now
	}
	if pressed && !k.pressed.IsZero() && now.Sub(k.pressed) >= k.cfg.After {
		k.auto = true
	}
	if k.auto && !pressed && now.Sub(k.calm) >= k.cfg.Back {
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
	case k.auto && k.cfg.When == "low_off":
		return true, "low requests of pool " + k.cfg.Pool + " are refused"
	case k.auto:
		return true, "pool " + k.cfg.Pool + " is overloaded"
	case k.cfg.Pool != "":
		return false, "pool " + k.cfg.Pool + " is well"
	}
	return false, "nobody has set it"
}
