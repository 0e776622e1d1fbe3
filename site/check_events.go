package site

import (
	"maps"
	"slices"
	"strings"
)

// EventTables are the tables that events and requests are asked for in, by the names of Azure Monitor. A test of package monitor/journal compares.
var EventTables = []string{"AppEvents", "AppTraces", "AppRequests", "AppDependencies", "AppAvailabilityResults", "AppMetrics", "AppRequestsRollup", "AppEventsRollup"}

// events checks what the fields of events say of each other.
func (c *checker) events() {
	a := c.site.Events.Azure
	if a == nil || c.suspect("events.azure") {
		return
	}
	switch {
	case c.site.Events.Off:
		c.wrong("events.azure", "nothing is sent while events.off is true; leave out one of them")
	case a.Token != "" && (a.Tenant != "" || a.Secret != ""):
		c.wrong("events.azure.token", "has no effect beside tenant and secret; leave out one of them")
	case a.Tenant != "" && (a.Client == "" || a.Secret == ""):
		c.wrong("events.azure.tenant", "needs client and secret beside it")
	case a.Secret != "" && a.Tenant == "":
		c.wrong("events.azure.secret", "has no effect without tenant")
	case !strings.HasPrefix(a.Endpoint, "https://"):
		c.wrong("events.azure.endpoint", "%s would send a token unprotected; write https://", quote(a.Endpoint))
	}
	c.authorities(a.CA, "events.azure.ca")
	for _, name := range slices.Sorted(maps.Keys(a.Streams)) {
		if !slices.Contains(EventTables, name) {
			c.wrong("events.azure.streams."+name, "%s is no table; there are %s", quote(name), strings.Join(EventTables, ", "))
		}
	}
}
