package site

import (
	"fmt"
	"slices"
	"time"
)

// What an objective looks at.
const (
	KindAvailability = "availability"
	KindLatency      = "latency"
	KindProbes       = "probes"
	KindFreshness    = "freshness"
	KindShed         = "shed"
)

// How requests that were turned away count in an objective.
const (
	CountBad     = "bad"
	CountNeutral = "neutral"
)

// MaxObjectives bounds the objectives of a site: each counts in fixed memory of 24 KB or, for windows of the calendar, a little more.
const MaxObjectives = 100

// Objective is a promise: what share of the requests, of the probes or of the time is good, over a window.
type Objective struct {
	Name      string        `yaml:"name" required:"true" form:"name" doc:"name shown in alerts, metrics and the console"`
	Kind      string        `yaml:"kind" default:"auto" enum:"auto|availability|latency|probes|freshness|shed" doc:"what is good: availability: a request that did not fail; latency: one answered within latency; probes: a probe of the pool that succeeded; freshness: a moment at which an endpoint of the pool was last found healthy within freshness; shed: a request that was not shed; auto: latency or freshness where that is given, else availability"`
	Route     string        `yaml:"route" doc:"requests of this route"`
	Pool      string        `yaml:"pool" doc:"requests of all routes to this pool, or its probes; without route and pool: all requests"`
	Zone      string        `yaml:"zone" form:"name" doc:"only attempts at endpoints of the pool in this zone"`
	Classes   []string      `yaml:"classes" enum:"critical|standard|low" doc:"only requests of these classes; empty: all"`
	Target    Percent       `yaml:"target" required:"true" min:"1%" max:"99.9999%" doc:"share that is to be good; the rest is the error budget"`
	Window    string        `yaml:"window" default:"30d" form:"window" doc:"over which the target holds: a length from 1d to 365d that rolls, or day, week (from Monday), month, quarter or year of the calendar in UTC"`
	Latency   time.Duration `yaml:"latency" default:"0s" min:"0s" max:"2m" doc:"answers that are complete within this are good; 0s: not a latency objective"`
	Freshness time.Duration `yaml:"freshness" default:"0s" min:"0s" doc:"longest time since an endpoint was last found healthy; 0s: not a freshness objective"`
	Shed      CountShed     `yaml:"shed" doc:"how requests count that were refused because there was too little of something"`
	Limited   string        `yaml:"limited" default:"neutral" enum:"bad|neutral" doc:"how requests count that a limit or quota refused: neutral requests count neither as good nor as bad"`
	// MinFailures keeps single bad requests among few from waking somebody.
	MinFailures int    `yaml:"min_failures" default:"5" min:"1" max:"1000000" doc:"no alert with fewer bad requests than this in its long window, and no policy with fewer in the window of the objective"`
	Policy      Policy `yaml:"policy" doc:"what happens when the error budget runs out"`
}

// CountShed says for each class how shed requests count.
type CountShed struct {
	Critical string `yaml:"critical" default:"bad" enum:"bad|neutral" doc:"critical requests that were shed"`
	Standard string `yaml:"standard" default:"bad" enum:"bad|neutral" doc:"standard requests that were shed"`
	Low      string `yaml:"low" default:"neutral" enum:"bad|neutral" doc:"low requests that were shed: to be the first to go is what low means"`
}

// Policy is what happens when the error budget runs out.
type Policy struct {
	Freeze  Percent `yaml:"freeze" default:"0%" min:"0%" max:"100%" doc:"with this share of the budget left or less, changes should wait: shown, told in an event, and answered by evenkeel slo --gate; 0%: when it is spent"`
	Tighten Percent `yaml:"tighten" default:"0%" min:"0%" max:"100%" doc:"with this share left or less, low requests of the objective's pool are refused, so that the others do better; 0%: never"`
	Hook    *Hook   `yaml:"hook" doc:"a program that is told when the policy begins or ends to ask for something, such as one that closes a pipeline or ends experiments"`
}

// Hook is a program. It gets what the policy asks for now as JSON on standard input.
type Hook struct {
	Command []string      `yaml:"command" required:"true" doc:"program and arguments, started without a shell"`
	Timeout time.Duration `yaml:"timeout" default:"10s" min:"10ms" max:"5m" doc:"it is ended after this"`
}

// Bounds of a window that rolls.
const (
	shortestWindow = 24 * time.Hour // below it, alert windows would be shorter than counts are apart
	longestWindow  = 365 * 24 * time.Hour
)

var windowWords = []string{"day", "week", "month", "quarter", "year"}

func checkWindow(s string) (string, error) {
	if slices.Contains(windowWords, s) {
		return s, nil
	}
	d, err := ParseDuration(s)
	switch {
	case err != nil:
		return s, fmt.Errorf("%s is not a window; write %s, or a length such as 30d%s", quote(s), either(windowWords), didYouMean(s, windowWords))
	case d < shortestWindow || d > longestWindow || d%time.Minute != 0:
		return s, fmt.Errorf("%s is not a window; allowed is 1d to 365d, in whole minutes", quote(s))
	}
	return s, nil
}

// WindowLength is the length of a window that is not of the calendar; ok is false for the words.
func (o *Objective) WindowLength() (d time.Duration, ok bool) {
	if slices.Contains(windowWords, o.Window) {
		return 0, false
	}
	d, err := ParseDuration(o.Window)
	return d, err == nil
}

// settle says what auto is.
func (o *Objective) settle() {
	switch {
	case o.Kind != "auto" && o.Kind != "":
	case o.Latency > 0:
		o.Kind = KindLatency
	case o.Freshness > 0:
		o.Kind = KindFreshness
	default:
		o.Kind = KindAvailability
	}
}

// objectives checks what objectives name, and what excludes what.
func (c *checker) objectives() {
	if len(c.site.Objectives) > MaxObjectives {
		c.wrong("objectives", "has %d objectives; allowed are %d", len(c.site.Objectives), MaxObjectives)
		return
	}
	names := map[string]string{}
	for i, o := range c.site.Objectives {
		path := fmt.Sprintf("objectives[%d]", i)
		c.once(names, o.Name, path)
		if !c.suspect(path) {
			c.objective(o, path)
		}
	}
}

func (c *checker) objective(o *Objective, path string) {
	c.about(o, path)
	ofProbes := o.Kind == KindProbes || o.Kind == KindFreshness
	switch {
	case o.Kind == KindLatency && o.Latency == 0:
		c.wrong(path+".kind", "%q needs latency, within which an answer is good", o.Kind)
	case o.Kind == KindFreshness && o.Freshness == 0:
		c.wrong(path+".kind", "%q needs freshness, the longest time since an endpoint was found healthy", o.Kind)
	case o.Latency > 0 && o.Kind != KindLatency:
		c.wrong(path+".latency", "has no effect on an objective of kind %s; make it an objective of its own", o.Kind)
	case o.Freshness > 0 && o.Kind != KindFreshness:
		c.wrong(path+".freshness", "has no effect on an objective of kind %s; make it an objective of its own", o.Kind)
	case ofProbes && o.Pool == "":
		c.wrong(path+".kind", "%q needs pool, whose probes are counted", o.Kind)
	case o.Zone != "" && o.Pool == "":
		c.wrong(path+".zone", "needs pool, whose endpoints are in zones")
	case o.Zone != "" && (o.Kind == KindLatency || o.Kind == KindShed):
		c.wrong(path+".zone", "does not go with kind %s: attempts at the endpoints of a zone are known to have failed or not, no more", o.Kind)
	case len(o.Classes) > 0 && (ofProbes || o.Kind == KindLatency || o.Zone != ""):
		c.wrong(path+".classes", "does not go with kind %s, probes or a zone, which know no classes", o.Kind)
	case o.Policy.Tighten > 0 && o.Pool == "" && o.Route == "":
		c.wrong(path+".policy.tighten", "needs a route or a pool: low requests of one pool are refused, not of all")
	}
}

// about checks the names of route, pool and zone.
func (c *checker) about(o *Objective, path string) {
	var routes, pools, zones []string
	toPool := false
	for _, r := range c.site.Routes {
		routes = append(routes, r.Name)
		toPool = toPool || r.Name == o.Route && r.Pool != ""
	}
	for name := range c.site.Pools {
		pools = append(pools, name)
	}
	slices.Sort(pools)
	switch {
	case o.Route != "" && o.Pool != "":
		c.wrong(path, "says route and pool; give one of them")
	case o.Route != "" && !slices.Contains(routes, o.Route) && !c.badInside["routes"]:
		c.wrong(path+".route", "there is no route %s%s", quote(o.Route), c.known(o.Route, routes, "routes"))
	case o.Pool != "" && c.site.Pools[o.Pool] == nil && !c.bad["pools"]:
		c.wrong(path+".pool", "there is no pool %s%s", quote(o.Pool), c.known(o.Pool, pools, "pools"))
	case o.Route != "" && o.Policy.Tighten > 0 && !toPool:
		c.wrong(path+".policy.tighten", "needs a route to a pool, whose low requests are refused")
	}
	p := c.site.Pools[o.Pool]
	if o.Zone == "" || p == nil || p.Discover != nil {
		return
	}
	for _, e := range p.Endpoints {
		zones = append(zones, e.Zone)
	}
	if !slices.Contains(zones, o.Zone) {
		c.wrong(path+".zone", "no endpoint of pool %s is in zone %s%s", o.Pool, quote(o.Zone), c.known(o.Zone, zones, "zones"))
	}
}
