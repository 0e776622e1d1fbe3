package console

import (
	"net/http"
	"strings"
	"time"
)

// Config is the site in force, and how it came to be.
type Config struct {
	Revision string       `json:"revision"`
	Since    time.Time    `json:"since"`
	Site     string       `json:"site"`    // the whole site file with every default; secrets are ***
	Changes  []SiteChange `json:"changes"` // newest first, since the start of the node
}

// SiteChange is one reading of the site file.
type SiteChange struct {
	At       time.Time `json:"at"`
	OK       bool      `json:"ok"`
	From     string    `json:"from"`            // revision that was in force
	Revision string    `json:"revision"`        // that is in force since
	Error    string    `json:"error,omitempty"` // why it was refused
	Lines    []string  `json:"lines"`           // what differs
}

// configNow is the site in force, with its text or without.
func (c *console) configNow(text bool) Config {
	cfg := c.deps.Config(text)
	cfg.Changes = copied(cfg.Changes)
	for i := range cfg.Changes {
		cfg.Changes[i].Lines = copied(cfg.Changes[i].Lines)
	}
	return cfg
}

func (c *console) hasConfig(View) bool { return c.deps.Config != nil }

func (c *console) configTwin(w http.ResponseWriter, _ *http.Request) {
	if c.deps.Config == nil {
		problem(w, http.StatusNotFound, "not_offered", "this node does not show its site")
		return
	}
	answer(w, http.StatusOK, c.configNow(true))
}

// configSection is a part of the site file under one top-level key.
type configSection struct {
	Name  string
	Text  string
	Lines int
}

// Size is how long it is, in words.
func (s configSection) Size() string {
	if s.Lines == 1 {
		return "1 line"
	}
	return countText(uint64(s.Lines)) + " lines"
}

// sections splits a printed site at its top-level keys.
func sections(text string) (list []configSection) {
	for line := range strings.Lines(text) {
		if key, _, ok := strings.Cut(line, ":"); ok && key != "" && line[0] != ' ' && line[0] != '-' && line[0] != '#' {
			list = append(list, configSection{Name: key})
		}
		if len(list) == 0 {
			list = append(list, configSection{Name: "site"})
		}
		last := &list[len(list)-1]
		last.Text += line
		last.Lines++
	}
	return list
}

// signOf is the sign of a line of a diff, for its colour.
func signOf(line string) string {
	_, what, _ := strings.Cut(line, ": ")
	switch {
	case strings.HasPrefix(what, "+ ") || strings.HasPrefix(what, "none → "):
		return "plus"
	case strings.HasPrefix(what, "- ") || strings.HasSuffix(what, " → none"):
		return "minus"
	}
	return "other"
}

// showConfig makes the page about the site. Its text is sent with the whole page only.
func (c *console) showConfig(on shown, _ *http.Request) any {
	cfg := c.configNow(on.Whole)
	s := struct {
		shown
		Config
		Sections []configSection
	}{shown: on, Config: cfg}
	if on.Whole {
		s.Sections = sections(cfg.Site)
	}
	return s
}
