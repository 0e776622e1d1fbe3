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

// shown is what the templates of every page see.
type shown struct {
	View
	Signed bool // people sign in and out here
	Reload bool // the node has a site file to read again
	Drain  bool // the node can be drained from here
	Title  string
	Nav    []navGroup
	Twin   string // path of the same as JSON
	Whole  bool   // the page as a whole, not one of its stream
}

// newPages reads the templates, which show controls to those who may use them and to nobody else.
func newPages(may bool) pages {
	sub, err := fs.Sub(pageFiles, "page")
	if err != nil {
		panic(err) // the folder is part of the program
	}
	p := pages{
		html:  template.Must(template.New("").Funcs(pageFuncs(may)).Funcs(placeFuncs()).ParseFS(sub, "*.html")),
		files: map[string]asset{},
	}
	kinds := map[string]string{".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}
	for _, name := range []string{"console.css", "console.js", "past.js", "mark.svg"} {
		body, err := fs.ReadFile(sub, name)
		if err != nil {
			panic(err)
		}
		sum := sha256.Sum256(body)
		p.files[name] = asset{kind: kinds[path.Ext(name)], tag: `"` + hex.EncodeToString(sum[:8]) + `"`, body: body}
	}
	return p
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
