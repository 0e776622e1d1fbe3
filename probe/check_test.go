package probe

import (
	"strings"
	"testing"

	"github.com/even-keel/evenkeel/site"
)

func TestCheck(t *testing.T) {
	web := func(h site.ProbeHTTP) *site.Probe { return &site.Probe{HTTP: &h} }
	for _, c := range []struct {
		name string
		cfg  *site.Probe
		want string // part of the error; empty: none
	}{
		{"nil", nil, ""},
		{"zero", &site.Probe{}, ""},
		{"two kinds", &site.Probe{HTTP: &site.ProbeHTTP{}, TCP: &site.ProbeTCP{}}, "probe has http and tcp, allowed is one of"},
		{"port", &site.Probe{Port: 65536}, "probe port 65536: allowed is 0 to 65535"},
		{"status", web(site.ProbeHTTP{Status: []string{"200", "2xx"}}), `probe http: status "2xx": allowed are numbers`},
		{"path", web(site.ProbeHTTP{Path: "healthz"}), `probe http: path "healthz": want a path`},
		{"path is a url", web(site.ProbeHTTP{Path: "http://x/"}), "want a path"},
		{"path with control", web(site.ProbeHTTP{Path: "/a\r\nX: y"}), "want a path"},
		{"method", web(site.ProbeHTTP{Method: "GE T"}), `method "GE T"`},
		{"tunnel", web(site.ProbeHTTP{Method: "CONNECT"}), `method "CONNECT"`},
		{"host", web(site.ProbeHTTP{Host: "a\r\nb"}), "host "},
		{"scheme", web(site.ProbeHTTP{Scheme: "ftp"}), `scheme "ftp": allowed are auto, http, https`},
		{"header name", web(site.ProbeHTTP{Headers: map[string]string{"a b": "c"}}), `"a b" is no name`},
		{"header value", web(site.ProbeHTTP{Headers: map[string]string{"a": "b\nc"}}), "not allowed"},
		{"header host", web(site.ProbeHTTP{Headers: map[string]string{"host": "b"}}), "Host is set by host"},
		{"header framing", web(site.ProbeHTTP{Headers: map[string]string{"content-length": "5"}}), "set by the probe itself"},
		{"header match", web(site.ProbeHTTP{Header: map[string]string{"a": "("}}), `header a "(": error parsing regexp`},
		{"header match name", web(site.ProbeHTTP{Header: map[string]string{"a:": "x"}}), "no name"},
		{"body", web(site.ProbeHTTP{Body: "["}), `body "[": error parsing regexp`},
		{"expect", &site.Probe{TCP: &site.ProbeTCP{Expect: "*"}}, `probe tcp: expect "*"`},
		{"command", &site.Probe{Exec: &site.ProbeExec{}}, "probe exec: command: want a program"},
		{"command with zero byte", &site.Probe{Exec: &site.ProbeExec{Command: []string{"a", "b\x00"}}}, "zero byte"},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := Check(c.cfg)
			switch {
			case c.want == "" && err != nil:
				t.Errorf("mistake %v in a right probe", err)
			case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
				t.Errorf("mistake %v, want %s", err, c.want)
			case c.want != "":
				if v := Once(t.Context(), Target{Address: "127.0.0.1:1"}, c.cfg); v.Healthy || v.Reason != tidy(err.Error(), reasonMax) {
					t.Errorf("verdict %+v of a wrong probe, want its mistake", v)
				}
			}
		})
	}
}

func TestStatuses(t *testing.T) {
	for _, c := range []struct {
		parts   []string
		in, out []int
	}{
		{nil, []int{200, 301, 399}, []int{100, 199, 400, 503, 0, -1, 99, 600, 1 << 30}},
		{[]string{"200-299,301"}, []int{200, 299, 301}, []int{199, 300, 302}},
		{[]string{"204", " 100 - 101 "}, []int{204, 100, 101}, []int{200, 102}},
		{[]string{"100-599"}, []int{100, 127, 128, 511, 512, 599}, []int{99, 600, 639}},
	} {
		s, err := parseStatuses(c.parts)
		if err != nil {
			t.Errorf("%q: %v", c.parts, err)
		}
		for _, n := range c.in {
			if !s.has(n) {
				t.Errorf("%q: %d is not in", c.parts, n)
			}
		}
		for _, n := range c.out {
			if s.has(n) {
				t.Errorf("%q: %d is in", c.parts, n)
			}
		}
	}
}

func FuzzStatuses(f *testing.F) {
	for _, s := range []string{"", "200", "200-299,301", "2xx", "-", "299-200", "099", "600", "+20", "200-", ",", "200--300", "１００"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := parseStatuses([]string{text})
		some := false
		for n := -10; n < 1100; n++ {
			if s.has(n) {
				some = true
				if n < statusMin || n > statusMax {
					t.Fatalf("%q has %d in it", text, n)
				}
			}
		}
		if some != (err == nil) {
			t.Fatalf("%q gives a set of some %v and %v", text, some, err)
		}
		if strings.Trim(text, "0123456789-, \t") != "" && err == nil && strings.TrimSpace(text) == text && !strings.ContainsFunc(text, func(r rune) bool { return r > 127 || r < 33 }) {
			t.Fatalf("%q was taken", text)
		}
	})
}
