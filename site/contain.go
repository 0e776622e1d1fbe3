package site

import "time"

// Cache is what the caches of all routes share.
type Cache struct {
	Memory    Size       `yaml:"memory" default:"64MiB" min:"1MiB" doc:"bytes of stored answers, with what they cost besides their bodies; answers that are coming in may take a quarter more"`
	Waiting   int        `yaml:"waiting" default:"20000" min:"0" doc:"requests at once that wait for the answer to another one; more ask for themselves"`
	Refreshes int        `yaml:"refreshes" default:"16" min:"0" max:"1000" doc:"stale answers that are refreshed at once without anybody waiting; 0: none, the next request refreshes"`
	Disk      *CacheDisk `yaml:"disk" doc:"keep answers in files too, so that they outlive a restart; changes with the next start, but for size"`
}

// CacheDisk is where answers are kept besides memory.
type CacheDisk struct {
	Path string `yaml:"path" form:"file" required:"true" doc:"folder of its own, on a disk of this machine"`
	Size Size   `yaml:"size" default:"1GiB" min:"16MiB" doc:"bytes of files; the least popular go when there are more, and when their list would take more than half of memory"`
}

// RouteCache is how answers of one route are kept and given to others (RFC 9111). What answers say themselves goes before all times here.
type RouteCache struct {
	TTL             time.Duration `yaml:"ttl" default:"0s" min:"0s" doc:"how long answers are fresh that say nothing of it, to requests without Cookie, Authorization, customer and user; 0s: endpoints are asked each time whether they still hold"`
	Negative        time.Duration `yaml:"negative" default:"1s" min:"0s" doc:"the same for 404 and 410"`
	Errors          time.Duration `yaml:"errors" default:"0s" min:"0s" doc:"the same for 500, 502, 503 and 504 of endpoints"`
	WhileRevalidate time.Duration `yaml:"stale_while_revalidate" default:"0s" min:"0s" doc:"how long a stale answer is given at once while a newer one is fetched, when it does not say so itself"`
	IfError         time.Duration `yaml:"stale_if_error" default:"10m" min:"0s" doc:"how long a stale answer is given when endpoints fail or answer 500, 502, 503 or 504, when it does not say so itself"`
	IfOverloaded    time.Duration `yaml:"stale_if_overloaded" default:"10m" min:"0s" doc:"how long a stale answer is given when the pool would refuse the request: shed, no endpoint, breaker open; never less than stale_if_error"`
	Body            Size          `yaml:"body" default:"1MiB" min:"1KiB" max:"256MiB" doc:"larger bodies are passed on and not kept; an eighth of cache.memory is the most"`
	Wait            time.Duration `yaml:"wait" default:"5s" min:"0s" doc:"how long a request waits for the answer to another one of the same; then it asks for itself; 0s: it never waits"`
}

// Fallback is what answers instead of a pool that cannot. Exactly one of Pool, Respond and Redirect is set.
type Fallback struct {
	Pool     string   `yaml:"pool" doc:"another pool; requests that may have changed something already are not sent there"`
	Respond  *Respond `yaml:"respond" doc:"a fixed text"`
	Redirect *Detour  `yaml:"redirect" doc:"a redirect"`
	On       []string `yaml:"on" default:"overloaded,down,failed,deadline" enum:"overloaded|down|failed|deadline|switched" doc:"overloaded: the pool's shedder, bulkhead or connection limits refuse; down: no endpoint, or breaker open; failed: endpoints were tried and failed; deadline: the request's time was over; switched: a switch of the route is on"`
}

// Detour is a Redirect for as long as a pool cannot answer: clients may keep a permanent one for good, and would not come back.
type Detour struct {
	Status int    `yaml:"status" default:"307" enum:"301|302|303|307|308" doc:"status of the answer; browsers remember 301 and 308 when the pool has long come back"`
	Scheme string `yaml:"scheme" enum:"|http|https" doc:"new scheme"`
	Host   string `yaml:"host" form:"authority" doc:"new host, may carry a port"`
	Path   string `yaml:"path" form:"target" doc:"new path; the query is kept"`
}

// Switch is a knob by which an application gives up a feature before requests have to be refused.
type Switch struct {
	Name   string            `yaml:"-"`
	Pool   string            `yaml:"pool" doc:"pool whose overload turns it on; without pool and alerts only people do, by evenkeel switch"`
	When   string            `yaml:"when" default:"overloaded" enum:"overloaded|low_off" doc:"overloaded: requests come faster than the pool answers them; low_off: all its low requests are refused"`
	Alerts []string          `yaml:"alerts" doc:"alerts that turn it on while one of them fires, silenced or not; see docs/alerts.md"`
	Labels map[string]string `yaml:"labels" doc:"labels that such an alert must have, such as route: checkout"`
	After  time.Duration     `yaml:"after" default:"2s" min:"0s" max:"1h" doc:"pool or alert have to be so for this long"`
	Back   time.Duration     `yaml:"back" default:"30s" min:"1s" max:"24h" doc:"it goes off when neither has been so for this long"`
}
