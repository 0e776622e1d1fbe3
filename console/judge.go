package console

import (
	"maps"
	"slices"
	"strings"
	"time"
)

// classWords are the classes, the most important first.
var classWords = []string{"critical", "standard", "low"}

const (
	noticeable = 0.05 // refusals per second that count as some: rates are of one second, so that one refusal is 1
	nearly     = 0.85 // share of the limit in flight from which a pool is near its limit
)

// judge is the state of one pool, and why, in words.
func (p PoolLoad) judge() (state, why string) {
	shed := p.shedWords()
	switch {
	case shed != "":
		return LoadOver, p.askedFor() + "refused by the shedder: " + shed
	case p.Behind:
		return LoadOver, p.askedFor() + "requests wait and the queue does not empty"
	case p.LowOff:
		return LoadNear, "low requests are refused as a whole until there is room again"
	case p.Waiting > 0 && p.Limit > 0:
		return LoadNear, "all is let through, after waiting up to " + msText(p.QueueMS) + " for a place"
	case p.Limit > 0 && float64(p.InFlight) >= nearly*p.Limit && p.InFlight > 1:
		return LoadNear, "all is let through, with little room to spare"
	}
	return LoadCalm, ""
}

// askedFor compares what is demanded with what the endpoints were found to do.
func (p PoolLoad) askedFor() string {
	if p.CapacityPerSecond <= 0 {
		return ""
	}
	return "about " + rateText(p.CapacityPerSecond) + "/s can be done, " + rateText(p.sum().DemandRPS) + "/s are asked for; "
}

// shedWords says how much of which classes the shedder refuses, the least important first.
func (p PoolLoad) shedWords() string {
	var words []string
	for _, class := range slices.Backward(classWords) {
		c := p.class(class)
		switch {
		case c.ShedRPS < noticeable:
		case c.ShedRPS >= 0.995*c.DemandRPS:
			words = append(words, "all "+class)
		default:
			words = append(words, percentText(c.ShedRPS/c.DemandRPS)+" of "+class)
		}
	}
	return strings.Join(words, ", ")
}

// advice says what a person can do about a pool, or that nothing has to be done; empty when there is nothing to say.
func (p PoolLoad) advice() string {
	if p.State != LoadOver {
		return ""
	}
	switch {
	case p.class("critical").ShedRPS >= noticeable:
		if _, out := p.ByHand["standard"]; out {
			return "Critical requests alone are more than the endpoints can do: add endpoints, or make them faster."
		}
		return "Even critical requests are refused. Refuse the others whole, and add endpoints."
	case p.class("standard").ShedRPS >= noticeable:
		return "Critical requests all pass. For more of the rest: add endpoints, or make them faster."
	case p.class("low").ShedRPS >= noticeable && p.LowOff:
		return "Nothing has to be done: low requests are refused as a whole, so that the others need not wait, and come back by themselves."
	case p.class("low").ShedRPS >= noticeable:
		return "Nothing has to be done: only low requests are refused. They come back by themselves."
	}
	return "The queue should empty within seconds. If it does not: add endpoints."
}

// handWords says which classes are refused by hand.
func (p PoolLoad) handWords(now time.Time) string {
	var words []string
	for _, class := range slices.Sorted(maps.Keys(p.ByHand)) {
		if until := p.ByHand[class]; until.After(now) {
			words = append(words, class+" for "+spanText(until.Sub(now)))
		}
	}
	return strings.Join(words, " and ")
}

// judge is the state of the node: the worst of its own and of its pools.
func (o Overload) judge() (state, why string) {
	if g := o.Guard; g != nil && g.Overloaded {
		why = "evenkeel itself is overloaded"
		if g.Why != "" {
			why += ": " + g.Why
		}
		return LoadOver, why
	}
	for _, want := range []string{LoadOver, LoadNear} {
		var names []string
		for _, p := range o.Pools {
			if p.State == want {
				names, why = append(names, p.Pool), p.Why
			}
		}
		switch len(names) {
		case 0:
			continue
		case 1:
			return want, "pool " + names[0] + ": " + why
		case 2, 3:
			return want, "pools " + strings.Join(names, ", ")
		default:
			return want, countText(uint64(len(names))) + " pools, first " + strings.Join(names[:3], ", ")
		}
	}
	if rps := o.refusedRPS(); rps >= noticeable {
		return LoadCalm, "there is room for all that is not refused by " + o.refusers()
	}
	return LoadCalm, ""
}

// refusers are the stages that refuse now, as breaker, bulkhead and limit.
func (o Overload) refusers() string {
	var names []string
	for _, r := range o.Refused {
		if r.RPS > 0 && !slices.Contains(names, r.Stage) {
			names = append(names, r.Stage)
		}
	}
	slices.Sort(names)
	if last := len(names) - 1; last > 0 {
		return strings.Join(names[:last], ", ") + " and " + names[last]
	}
	return strings.Join(names, "")
}

// refusedRPS is what is refused now, by whatever stage.
func (o Overload) refusedRPS() (sum float64) {
	for _, r := range o.Refused {
		sum += r.RPS
	}
	return sum
}

// All is all classes of the node together.
func (o Overload) All() (sum ClassLoad) {
	for _, c := range o.Classes {
		sum.add(c)
	}
	return sum
}

// loadWord is a state of load with its shape, and the tone it is shown in.
func loadWord(state string) (text, tone string) {
	switch state {
	case LoadOver:
		return "▲ overloaded", "bad"
	case LoadNear:
		return "◐ near its limit", "warn"
	}
	return "● room to spare", "good"
}

// pressed are the pools, those that most need a look first.
func (o Overload) pressed() []PoolLoad {
	rank := map[string]int{LoadOver: 0, LoadNear: 1, LoadCalm: 2}
	list := copied(o.Pools)
	slices.SortStableFunc(list, func(a, b PoolLoad) int { return rank[a.State] - rank[b.State] })
	return list
}
