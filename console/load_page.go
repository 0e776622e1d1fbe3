package console

import (
	"net/http"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Limits of the overload page: the stream sends it every second.
const (
	chartPools = 6   // pools with charts, those that most need a look first
	loadRows   = 30  // limits, quotas and kinds of refusals; the rest is in the API
	loadPools  = 100 // pools at all
)

// loadShown is what the templates of the overload page see.
type loadShown struct {
	shown
	Long   bool  // ten minutes instead of two
	Chart  chart // of the node
	Loads  []poolShown
	Kinds  []RefusedLoad // in an order that rarely changes, so that rows stand still
	More   int           // pools that are not shown
	CanSet bool
}

// poolShown is one pool of it.
type poolShown struct {
	PoolLoad
	Charts []chart
	Advice string
	Hand   string // classes refused by hand
	All    ClassLoad
	CanSet bool
	// LowOut and StandardOut say which classes are refused by hand.
	LowOut, StandardOut bool
}

// showOverload makes a view ready for the overload page.
func (c *console) showOverload(on shown, r *http.Request) any {
	return struct {
		loadShown
		History *pasts
	}{c.showLoad(on, r), c.pasts(on, r,
		demand(),
		drawing{id: "load-refused", name: "Refused by stage", unit: "/s", asks: []asks{{expr: `sum by (stage) (rate(evenkeel_refused_total[$w]))`, by: "stage"}}},
		drawing{id: "load-flight", name: "At once, and what is right", asks: []asks{
			{expr: `evenkeel_shed_in_flight`, by: "pool"}, {expr: `evenkeel_shed_limit > 0`, name: "limit of", by: "pool"}}},
		drawing{id: "load-queue", name: "Longest wait in the queue", unit: "ms", asks: []asks{{expr: `1000 * evenkeel_shed_queue_seconds`, by: "pool"}}},
	)}
}

// showLoad is how loaded the node and its pools are.
func (c *console) showLoad(on shown, r *http.Request) loadShown {
	v, span := on.View, int64(chartSlots)
	s := loadShown{shown: on, Long: r.URL.Query().Get("span") == "10m", CanSet: c.deps.Shed != nil}
	if s.Long {
		span = 600
	}
	end := v.At.Unix()
	past := map[string]Series{}
	if c.deps.Curves != nil {
		for _, one := range c.deps.Curves(v.At.Add(-time.Duration(span+2) * time.Second)) {
			past[one.Pool] = one
		}
	}
	if node := past[""]; len(node.At) > 0 {
		end = node.At[len(node.At)-1] // between two samples the curves stand still
	}
	s.Kinds = copied(v.Overload.Refused)
	sortBy(s.Kinds, func(a, b RefusedLoad) bool { return a.Count > b.Count })
	pressed := v.Overload.Pools
	if len(pressed) > chartPools { // few stand in the order of their names: cards that jump cannot be read
		pressed = v.Overload.pressed()
	}
	s.More = max(0, len(pressed)-loadPools)
	var capacity []float64
	if len(pressed) == 1 {
		capacity = past[pressed[0].Pool].Capacity // of one pool alone: else what comes is not what it can do
	}
	s.Chart = rateChart(past[""], capacity, end, span)
	for i, p := range pressed[:len(pressed)-s.More] {
		one := poolShown{PoolLoad: p, Advice: p.advice(), Hand: p.handWords(v.At), All: p.sum(), CanSet: s.CanSet && p.Mode != "off"}
		one.LowOut, one.StandardOut = p.ByHand["low"].After(v.At), p.ByHand["standard"].After(v.At)
		if series, ok := past[p.Pool]; ok && i < chartPools {
			if len(pressed) > 1 {
				one.Charts = append(one.Charts, rateChart(series, series.Capacity, end, span))
			}
			one.Charts = append(one.Charts, flightChart(series, end, span), timeChart(series, end, span))
		}
		s.Loads = append(s.Loads, one)
	}
	return s
}

// stageWords say what a stage is, for people who do not know the list of stages.
var stageWords = map[string]string{
	"guard":    "evenkeel itself was overloaded",
	"identify": "the sender did not prove who it is",
	"route":    "no route leads there",
	"deadline": "the time was over",
	"limit":    "over the sender's limit",
	"quota":    "the quota is used up",
	"rules":    "a rule of the site file",
	"screen":   "looked like an attack",
	"shed":     "more than the endpoints can do",
	"retry":    "no attempt worked",
	"pick":     "no endpoint could take it",
	"parse":    "not a correct request",
	"send":     "the endpoint did not answer as it should",
}

// reasonWords say more than the stage alone.
var reasonWords = map[string]string{
	"shed overloaded":         "more than the endpoints can do",
	"shed queue_time":         "waited as long as waiting makes sense",
	"shed deadline":           "its deadline cannot be met any more",
	"shed class_off":          "its class is refused as a whole for now",
	"shed client_gone":        "the client left while it waited",
	"limit rate":              "over the rate of its limit",
	"limit concurrency":       "too many of its key at once",
	"guard node_overloaded":   "evenkeel has as much in flight as it can hold",
	"guard node_busy":         "evenkeel waits too long for a processor",
	"guard node_accept_queue": "connections wait to be accepted",
	"guard node_memory":       "evenkeel is short of memory",
}

// refusedWords explain a kind of refusals.
func refusedWords(stage, reason string) string {
	if words := reasonWords[stage+" "+reason]; words != "" {
		return words
	}
	return stageWords[stage]
}

// keysText says what a limit counts by.
func keysText(by []string) string {
	switch len(by) {
	case 0:
		return ""
	case 1:
		if by[0] == "global" {
			return "in all"
		}
		return "for each " + by[0]
	}
	text := "for each " + by[0]
	for _, word := range by[1:] {
		text += " and " + word
	}
	return text
}

// Allows says what a limit lets through.
func (l LimitLoad) Allows() string {
	text := ""
	if l.Rate > 0 {
		text = allowedText(l.Rate)
		if l.Burst > 0 {
			text += ", burst " + rateText(l.Burst)
		}
	}
	if l.Concurrency > 0 {
		if text != "" {
			text += ", "
		}
		text += countText(uint64(l.Concurrency)) + " at once"
	}
	return text
}

// allowedText is a rate in the shortest of the site file's units that leaves one or more: 1/h is no 0/s, and 10/m no 0.2/s.
func allowedText(rate float64) string {
	switch {
	case rate >= .999:
		return rateText(rate) + "/s"
	case rate*60 >= .999:
		return rateText(rate*60) + "/m"
	}
	return rateText(rate*3600) + "/h"
}

// Allows says what a quota lets through.
func (q QuotaLoad) Allows() string {
	text := ""
	if q.Calls > 0 {
		text = countText(uint64(q.Calls)) + " calls"
	}
	if q.Bytes > 0 {
		if text != "" {
			text += ", "
		}
		text += bytesText(uint64(q.Bytes))
	}
	return text + " per " + q.Period
}

// partOf is a share of a whole, 0 when there is no whole.
func partOf(part, whole float64) float64 {
	if !(whole > 0) {
		return 0
	}
	return min(max(part/whole, 0), 1)
}

// wholeOf is what a number of requests a second is in a bar whose whole is most: the bars of several classes are comparable.
func wholeOf(list []ClassLoad) (most float64) {
	for _, c := range list {
		most = max(most, c.DemandRPS)
	}
	return most
}

// drawn is a chart with a name that is its own on the page.
type drawn struct {
	chart
	ID   string
	Tall bool
}

func drawnOf(c chart, id string, tall bool) drawn { return drawn{c, id, tall} }

// sentenceOf makes a sentence of a reason.
func sentenceOf(why string) string {
	r, n := utf8.DecodeRuneInString(why)
	return string(unicode.ToUpper(r)) + strings.TrimSuffix(why[n:], ".") + "."
}
