package console

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"html/template"
	"io/fs"
	"net/http"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
)

//go:embed page
var pageFiles embed.FS

// rowLimit is how many endpoints of one pool the page shows: the stream sends them every second. Those
// that are not well come first, the rest is in the API.
const rowLimit = 200

// pages are the templates and files of the page, read once.
type pages struct {
	html  *template.Template
	files map[string]asset
}

type asset struct {
	kind, tag string
	body      []byte
}

// shown is what the templates see.
type shown struct {
	View
	Signed bool   // people sign in and out here
	Reload bool   // the node has a site file to read again
	Drain  bool   // the node can be drained from here
	Place  string // which page it is: node or load
}

// shown is a view for the templates, with what this node offers.
func (c *console) shown(v View) shown {
	return shown{View: v, Signed: c.deps.Door.Closed(), Reload: c.deps.Reload != nil, Drain: c.deps.Drain != nil, Place: "node"}
}

// newPages reads the templates, which show controls to those who may use them and to nobody else.
func newPages(may bool) pages {
	sub, err := fs.Sub(pageFiles, "page")
	if err != nil {
		panic(err) // the folder is part of the program
	}
	p := pages{
		html:  template.Must(template.New("").Funcs(pageFuncs(may)).ParseFS(sub, "*.html")),
		files: map[string]asset{},
	}
	kinds := map[string]string{".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}
	for _, name := range []string{"console.css", "console.js", "mark.svg"} {
		body, err := fs.ReadFile(sub, name)
		if err != nil {
			panic(err)
		}
		sum := sha256.Sum256(body)
		p.files[name] = asset{kind: kinds[path.Ext(name)], tag: `"` + hex.EncodeToString(sum[:8]) + `"`, body: body}
	}
	return p
}

func pageFuncs(may bool) template.FuncMap {
	return template.FuncMap{
		"may":  func() bool { return may }, // whoever sees the page may change things
		"rate": rateText, "count": countText, "bytes": bytesText, "ms": msText, "percent": percentText,
		"share": shareOf, "due": dueOf, "latency": latencyOf, "glyph": glyph, "tone": tone, "upCount": upCount,
		"broken":  func(p Pool) string { return breakerText(p.Breaker) },
		"crowded": func(p Pool) string { return bulkheadText(p.Bulkhead) },
		"leave":   func(p Pool) string { return breakerPath(p.Name, "", BreakerAuto) },
		"reasons": reasons, "sum": refused, "ticks": ticksOf, "rows": rowsOf,
		"word":     func(n Node) string { w, _ := nodeState(n); return w },
		"mood":     func(n Node) string { _, t := nodeState(n); return t },
		"span":     func(s float64) string { return spanText(seconds(s)) },
		"since":    func(now, t time.Time) string { return spanText(now.Sub(t)) },
		"until":    func(now, t time.Time) string { return spanText(t.Sub(now)) },
		"soon":     func(now, t time.Time) bool { return t.Sub(now) < 14*24*time.Hour },
		"stamp":    func(t time.Time) string { return t.UTC().Format(time.RFC3339) },
		"clock":    func(t time.Time) string { return t.Format("15:04:05") },
		"points":   pointsOf,
		"loadText": func(state string) string { text, _ := loadWord(state); return text },
		"loadTone": func(state string) string { _, tone := loadWord(state); return tone },
		"because":  refusedWords, "keysText": keysText, "order": shedPath, "sentence": sentenceOf,
		"promiseText": func(state string) string { word, _ := objectiveWord(state); return word },
		"promiseTone": func(state string) string { _, tone := objectiveWord(state); return tone },
		"budget":      budgetText, "target": shareText, "burn": burnText, "detect": detectText,
		"bad":  func(o Objective) uint64 { return o.Total - min(o.GoodCount, o.Total) },
		"part": partOf, "drawn": drawnOf, "whole": wholeOf,
		"standIn": func(d *Degrade, now time.Time) any {
			return struct {
				*Degrade
				Now time.Time
			}{d, now}
		},
		"setSwitch": switchPath,
		"size":      func(n int64) uint64 { return uint64(max(n, 0)) },
		"num":       func(n int) uint64 { return uint64(max(n, 0)) },
		"pair": func(p Pool, now time.Time) any {
			return struct {
				Pool Pool
				Now  time.Time
			}{p, now}
		},
		"status": func(r Route, class string) any {
			return struct {
				Class string
				N     uint64
			}{class, r.Status[class]}
		},
		"action": endpointPath,
		"cut":    func(list []Event, n int) []Event { return list[:min(n, len(list))] },
		"join":   strings.Join,
		"int":    func(n int64) string { return countText(uint64(max(n, 0))) },
		"wide":   func(v float64) string { return strconv.FormatFloat(100*min(max(v, 0), 1), 'f', 1, 64) + "%" },
	}
}

// pointsOf writes a history for the script that draws it.
func pointsOf(list []float64) string {
	b := make([]byte, 0, 8*len(list))
	for i, v := range list {
		if i > 0 {
			b = append(b, ' ')
		}
		b = strconv.AppendFloat(b, v, 'f', 1, 64)
	}
	return string(b)
}

// marks is a history of verdicts as two SVG paths: low strokes for healthy, full ones for sick.
type marks struct{ Good, Bad, Text string }

func ticksOf(list []Verdict) marks {
	var good, bad strings.Builder
	sick, last := 0, ""
	const slots, step, height = 32, 4, 16
	list = list[max(0, len(list)-slots):]
	first := slots - len(list) // the newest stands at the right
	for i, v := range list {
		b, h := &good, 5
		if !v.Healthy {
			b, h = &bad, height
			sick, last = sick+1, v.Reason
		}
		b.WriteString("M" + strconv.Itoa((first+i)*step+1) + " " + strconv.Itoa(height) + "v-" + strconv.Itoa(h))
	}
	text := "no probe yet"
	switch {
	case len(list) > 0 && sick == 0:
		text = "last " + strconv.Itoa(len(list)) + " probes healthy"
	case sick > 0:
		text = strconv.Itoa(sick) + " of the last " + strconv.Itoa(len(list)) + " probes failed"
		if last != "" {
			text += ", the latest: " + last
		}
	}
	return marks{Good: good.String(), Bad: bad.String(), Text: text}
}

// rowsOf is which endpoints of a pool the page shows: in order while they fit, else those that need a look first.
func rowsOf(p Pool) []Endpoint {
	if len(p.Endpoints) <= rowLimit {
		return p.Endpoints
	}
	list := slices.Clone(p.Endpoints)
	slices.SortStableFunc(list, func(a, b Endpoint) int { return urgency(b.State) - urgency(a.State) })
	return list[:rowLimit]
}

func urgency(state string) int {
	switch tone(state) {
	case "bad":
		return 3
	case "warn":
		return 2
	case "calm":
		return 1
	}
	return 0
}

// sortBy sorts a short list by less.
func sortBy[T any](list []T, less func(a, b T) bool) {
	slices.SortStableFunc(list, func(a, b T) int {
		switch {
		case less(a, b):
			return -1
		case less(b, a):
			return 1
		}
		return 0
	})
}

// part writes the part of a page that changes.
func (p pages) part(name string, v any) ([]byte, error) {
	var b bytes.Buffer
	err := p.html.ExecuteTemplate(&b, name, v)
	return b.Bytes(), err
}

func (c *console) page(w http.ResponseWriter, _ *http.Request) {
	c.html(w, http.StatusOK, "page.html", c.shown(c.now()))
}

func (c *console) html(w http.ResponseWriter, status int, name string, data any) {
	var b bytes.Buffer
	if err := c.pages.html.ExecuteTemplate(&b, name, data); err != nil {
		problem(w, http.StatusInternalServerError, "page_failed", "the page could not be written")
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(b.Bytes())
}

// asset serves a file of the page. The tag lets browsers ask whether it changed.
func (c *console) asset(w http.ResponseWriter, r *http.Request) {
	a, ok := c.pages.files[r.PathValue("file")]
	if !ok {
		problem(w, http.StatusNotFound, "not_found", "there is nothing at "+r.URL.Path)
		return
	}
	w.Header().Set("Content-Type", a.kind)
	w.Header().Set("Cache-Control", "no-cache")
	w.Header().Set("ETag", a.tag)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(a.body))
}
