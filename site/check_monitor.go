package site

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
)

// monitor checks what the fields of monitor say of each other.
func (c *checker) monitor() {
	m := c.site.Monitor
	if p := m.Prometheus; p != nil && !c.suspect("monitor.prometheus") {
		if m.Off {
			c.wrong("monitor.prometheus", "nothing is asked while monitor.off is true; leave out one of them")
		}
		c.authorities(p.CA, "monitor.prometheus.ca")
	}
	if m.Off && len(m.RemoteWrite) > 0 && !c.suspect("monitor") {
		c.wrong("monitor.remote_write", "nothing is sent while monitor.off is true; leave out one of them")
	}
	seen := map[string]bool{}
	for i, w := range m.RemoteWrite {
		at := fmt.Sprintf("monitor.remote_write[%d]", i)
		if c.suspect(at) {
			continue
		}
		switch {
		case seen[w.URL]:
			c.wrong(at+".url", "%s is here already", quote(w.URL))
		case w.Token != "" && w.User != "":
			c.wrong(at, "has both token and user; a request carries one authorization")
		case w.Pass != "" && w.User == "":
			c.wrong(at+".password", "has no effect without user")
		}
		seen[w.URL] = true
		c.authorities(w.CA, at+".ca")
		for _, name := range slices.Sorted(maps.Keys(w.Labels)) {
			if !regexp.MustCompile(`^[a-zA-Z_][a-zA-Z0-9_]*$`).MatchString(name) {
				c.wrong(at+".labels."+name, "%s is no name of a label; letters, digits and _ are allowed, the first no digit", quote(name))
			}
		}
	}
}
