package console

import (
	"encoding/json"
	"html/template"
	"net/http"
	"slices"
	"strings"
)

// page is one page of the console. Each has an address, a part that changes and its stream, a word in the navigation, and a twin in JSON.
type page struct {
	path  string // its address
	word  string // in the navigation, and in the title
	group string // of the navigation
	under string // of one that is not in the navigation: path of the page that is marked there instead
	part  string // template of what changes
	skip  string // id of what most come for: the first link leads there
	twin  string // path of the same as JSON
	still bool   // it shows what is over, and has no stream
	// there says whether this node has what the page is about; nil: always. Pages of parts that a site does not use are absent, not empty.
	there func(v View) bool
	// show is what the template gets; nil: there is nothing of that name.
	show func(s shown, r *http.Request) any
}

// pageTable are all pages, in the order of the navigation.
func (c *console) pageTable() []page {
	const now, parts, record = "Now", "Parts", "Record"
	return []page{
		{path: "/", word: "Overview", group: now, part: "overview", skip: "line", twin: "/api/v1/status", show: c.showOverview},
		{path: "/overload", word: "Overload", group: now, part: "load", skip: "loads", twin: "/api/v1/overload", show: c.showOverload},
		{path: "/alerts", word: "Alerts", group: now, part: "alerts", skip: "alerts", twin: "/api/v1/alerts", there: c.hasAlerts, show: c.showAlerts},
		{path: "/objectives", word: "Objectives", group: now, part: "promises", skip: "promises", twin: "/api/v1/objectives", show: c.showObjectives},
		{path: "/listeners", word: "Listeners", group: parts, part: "listeners", skip: "listeners", twin: "/api/v1/listeners", show: c.showListeners},
		{path: "/pools", word: "Pools", group: parts, part: "pools", skip: "pools", twin: "/api/v1/pools", there: hasPools, show: c.showPools},
		{path: "/pools/{pool}", word: "Pool", under: "/pools", part: "one-pool", skip: "endpoints", show: c.showPool},
		{path: "/dependencies", word: "Dependencies", group: parts, part: "dependencies", skip: "dependencies", twin: "/api/v1/dependencies", there: hasPools, show: c.showDependencies},
		{path: "/limits", word: "Limits", group: parts, part: "limits", skip: "limits", twin: "/api/v1/limits", there: hasLimits, show: c.showLimits},
		{path: "/cache", word: "Cache", group: parts, part: "cache", skip: "cache", twin: "/api/v1/cache", there: hasCache, show: c.showCache},
		{path: "/checks", word: "Checks", group: parts, part: "checks", skip: "checks", twin: "/api/v1/checks", there: hasChecks, show: c.showChecks},
		{path: "/zones", word: "Zones", group: parts, part: "zones", skip: "zones", twin: "/api/v1/zones", there: hasZones, show: c.showZones},
		{path: "/events", word: "Events", group: record, part: "past-events", skip: "list", twin: "/api/v1/events", still: true, show: c.showEvents},
		{path: "/query", word: "Query", group: record, part: "query", skip: "answer", twin: "/api/v1/query/tables", still: true, there: c.hasQuery, show: c.showQuery},
		{path: "/load", word: "Load runs", group: record, part: "load-runs", skip: "load-runs", twin: "/api/v1/load", there: c.hasRuns, show: c.showRuns},
		{path: "/graph", word: "Graph", group: record, part: "graph", skip: "graph", twin: "/api/v1/graph", there: c.hasHistory, show: c.showGraph},
		{path: "/access", word: "Access", group: record, part: "access", skip: "actions", twin: "/api/v1/access", show: c.showAccess},
		{path: "/config", word: "Config", group: record, part: "config", skip: "changes", twin: "/api/v1/config", there: c.hasConfig, show: c.showConfig},
	}
}

// frame is what stands around the part of a page that changes.
type frame struct {
	Name, Title string // of the node and the page
	Skip        string
	Live        string // where its stream is
	Part        template.HTML
}

// navGroup is a part of the navigation.
type navGroup struct {
	Name  string
	Links []navLink
}

// navLink is one page in it.
type navLink struct {
	Path, Word string
	Here       bool
}

// pageRoutes serves the pages and their streams.
func (c *console) pageRoutes(serve func(method, path string, h http.HandlerFunc)) {
	for _, p := range c.table {
		path := p.path
		if path == "/" {
			path = "/{$}"
		}
		serve("GET", path, func(w http.ResponseWriter, r *http.Request) { c.servePage(w, r, p) })
		if p.still {
			continue
		}
		serve("GET", p.live(p.path), func(w http.ResponseWriter, r *http.Request) { c.servePart(w, r, p) })
	}
}

// live is the path of the stream of a page.
func (p page) live(path string) string {
	if path == "/" {
		return "/live"
	}
	return "/live" + path
}

// shown is a view for the templates of a page, with what this node offers.
func (c *console) shown(p page, v View) shown {
	s := shown{View: v, Signed: c.deps.Door.Closed(), Reload: c.deps.Reload != nil, Drain: c.deps.Drain != nil, Twin: p.twin, Title: p.word}
	here := p.path
	if p.under != "" {
		here = p.under
	}
	for _, one := range c.table {
		if one.under != "" || one.there != nil && !one.there(v) {
			continue
		}
		if n := len(s.Nav); n == 0 || s.Nav[n-1].Name != one.group {
			s.Nav = append(s.Nav, navGroup{Name: one.group})
		}
		group := &s.Nav[len(s.Nav)-1]
		group.Links = append(group.Links, navLink{Path: one.path, Word: one.word, Here: one.path == here})
	}
	return s
}

// asked is what a page shows that may have been asked for what makes no sense.
type asked interface{ Status() int }

// writePart writes the part of a page that changes; nil: there is no such page.
func (c *console) writePart(r *http.Request, p page, whole bool) (part []byte, status int, err error) {
	v := c.now()
	if p.there != nil && !p.there(v) {
		return nil, 0, nil
	}
	s := c.shown(p, v)
	s.Whole = whole
	data := p.show(s, r)
	if data == nil {
		return nil, 0, nil
	}
	status = http.StatusOK
	if a, is := data.(asked); is {
		status = a.Status()
	}
	part, err = c.pages.part(p.part, data)
	return part, status, err
}

// servePage writes a whole page.
func (c *console) servePage(w http.ResponseWriter, r *http.Request, p page) {
	part, status, err := c.writePart(r, p, true)
	switch {
	case err != nil:
		problem(w, http.StatusInternalServerError, "page_failed", "the page could not be written")
		return
	case part == nil:
		problem(w, http.StatusNotFound, "not_found", "there is nothing at "+r.URL.Path)
		return
	}
	c.putPage(w, status, r, p, part)
}

// putPage writes a whole page around its part.
func (c *console) putPage(w http.ResponseWriter, status int, r *http.Request, p page, part []byte) {
	at := p.path
	if p.under != "" {
		at = r.URL.EscapedPath()
	}
	f := frame{Name: c.now().Node.Name, Title: titleOf(r, p), Skip: p.skip, Part: template.HTML(part)} // written by the templates themselves
	if !p.still {
		f.Live = p.live(at)
	}
	if !p.still && r.URL.RawQuery != "" {
		f.Live += "?" + r.URL.RawQuery
	}
	c.html(w, status, "page.html", f)
}

// servePart sends the part of a page that changes once a second: it has one template, and the script only puts in place what the node wrote.
func (c *console) servePart(w http.ResponseWriter, r *http.Request, p page) {
	c.stream(w, r, "page", func() ([]byte, error) {
		part, _, err := c.writePart(r, p, false)
		if err != nil || part == nil {
			return nil, errGone
		}
		return json.Marshal(string(part)) // one line, as an event needs it
	})
}

// titleOf is the word of a page, or what it is one of many about.
func titleOf(r *http.Request, p page) string {
	if p.under != "" {
		_, name, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, p.under), "/")
		return p.word + " " + name
	}
	return p.word
}

// isPage says whether people may ask for a path with a browser: who is not signed in is led to the door, not told of tokens.
func (c *console) isPage(r *http.Request) bool {
	_, pattern := c.mux.Handler(r)
	return slices.ContainsFunc(c.table, func(p page) bool { return pattern == "GET "+p.path || p.path == "/" && pattern == "GET /{$}" })
}
