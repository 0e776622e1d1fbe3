package site

import "time"

// Breaker is when a pool refuses at once because everything behind it fails, until trials find it well again.
type Breaker struct {
	Mode       string          `yaml:"mode" default:"on" enum:"on|dry_run|off" doc:"on: refuse at once while everything behind the pool fails; dry_run: only count what would be refused"`
	Row        int             `yaml:"row" default:"20" min:"0" max:"1000000" doc:"requests in a row that fail on all endpoints, and again when repeated, open the breaker; 0: not looked at"`
	RowFor     time.Duration   `yaml:"row_for" default:"2s" min:"0s" max:"10m" doc:"such a row must have lasted this long"`
	Failures   Percent         `yaml:"failures" default:"100%" min:"0%" max:"100%" doc:"share of requests within window that fail, or are answered 503, opens the breaker; 429 counts for nothing; 0%: not looked at"`
	Samples    int             `yaml:"samples" default:"50" min:"1" max:"1000000" doc:"fewer requests within window say nothing of shares"`
	Window     time.Duration   `yaml:"window" default:"10s" min:"100ms" max:"1h" doc:"shares are counted over this, in ten exact parts"`
	Slow       time.Duration   `yaml:"slow" default:"0s" min:"0s" doc:"an answer that takes this long is slow; 0s: none is"`
	SlowShare  Percent         `yaml:"slow_share" default:"80%" min:"1%" max:"100%" doc:"share of slow answers within window that opens the breaker"`
	Open       time.Duration   `yaml:"open" default:"500ms" min:"10ms" max:"1h" doc:"how long it refuses the first time; doubles with each failed trial, less up to a quarter by chance"`
	OpenMax    time.Duration   `yaml:"open_max" default:"1500ms" min:"10ms" max:"1h" doc:"and never longer than this, but for Retry-After: requests are back this soon after the pool is"`
	RetryAfter time.Duration   `yaml:"retry_after" default:"10s" min:"0s" max:"5m" doc:"how much of a Retry-After of failed answers is believed"`
	Trials     int             `yaml:"trials" default:"3" min:"1" max:"1000" doc:"requests that are let through to find out; all must go well"`
	Endpoint   EndpointBreaker `yaml:"endpoint" doc:"take single endpoints out by fixed bounds, beside outliers, which compares them with the others and needs none"`
}

// EndpointBreaker are fixed bounds for the answers of one endpoint. How long it is out, and what it costs to come back, outliers says.
type EndpointBreaker struct {
	Row       int           `yaml:"row" default:"0" min:"0" max:"1000000" doc:"failures in a row that take the endpoint out; 0: not looked at"`
	Failures  Percent       `yaml:"failures" default:"0%" min:"0%" max:"100%" doc:"share of failures among its latest answers that takes it out; 0%: not looked at"`
	Slow      time.Duration `yaml:"slow" default:"0s" min:"0s" doc:"an answer that takes this long is slow; 0s: none is"`
	SlowShare Percent       `yaml:"slow_share" default:"80%" min:"1%" max:"100%" doc:"share of slow ones among its latest answers that takes it out"`
	Samples   int           `yaml:"samples" default:"20" min:"1" max:"1000000" doc:"fewer answers lately say nothing of shares"`
}

// Any says whether there is a bound at all.
func (b EndpointBreaker) Any() bool { return b.Row > 0 || b.Failures > 0 || b.Slow > 0 }

// breaker checks what the fields of a breaker say of each other.
func (c *checker) breaker(b Breaker, path string) {
	if c.suspect(path) {
		return
	}
	switch {
	case b.OpenMax < b.Open:
		c.wrong(path+".open_max", "%v is less than open, %v", b.OpenMax, b.Open)
	case b.Mode == ModeOn && b.Row == 0 && b.Failures == 0 && b.Slow == 0:
		c.wrong(path+".row", "with failures and slow off too, nothing would ever open the breaker; write mode: off")
	}
}
