package pool

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/even-keel/evenkeel/site"
)

func setOf(n int) found {
	var f found
	for i := range n {
		f.set = append(f.set, site.Endpoint{Address: fmt.Sprintf("10.0.0.%d:80", i+1), Weight: 1, Priority: 1})
	}
	return f
}

func TestGuardHoldsEmptyAndHalvedSets(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	type step struct {
		after time.Duration
		n     int // -1: an error
		same  bool
		want  int // endpoints in use afterwards
		held  string
	}
	for name, steps := range map[string][]step{
		"first set": {{0, 4, false, 4, ""}, {1, 3, false, 3, ""}, {1, 9, false, 9, ""}},
		"empty is never applied": {{0, 4, false, 4, ""}, {time.Hour, 0, false, 4, "no endpoints were found"},
			{time.Hour, 0, false, 4, "no endpoints were found"}, {time.Hour, 0, false, 4, "no endpoints were found"}, {1, 3, false, 3, ""}},
		"halved is applied the third time": {{0, 6, false, 6, ""}, {1, 3, false, 6, "only 3 endpoints were found, 6 were there"},
			{1, 2, false, 6, "only 2"}, {1, 3, false, 3, ""}},
		"halved for a minute": {{0, 6, false, 6, ""}, {1, 1, false, 6, "only 1"}, {59 * time.Second, 1, true, 6, "only 1"},
			{time.Second, 1, true, 1, ""}},
		"a file that says the same is no further proof": {{0, 6, false, 6, ""}, {1, 3, false, 6, "only"}, {1, 3, true, 6, "only"},
			{1, 3, true, 6, "only"}, {1, 3, true, 6, "only"}},
		"a whole set between":  {{0, 6, false, 6, ""}, {1, 3, false, 6, "only"}, {1, 3, false, 6, "only"}, {1, 6, false, 6, ""}, {1, 3, false, 6, "only"}},
		"an empty set between": {{0, 6, false, 6, ""}, {1, 3, false, 6, "only"}, {1, 3, false, 6, "only"}, {1, 0, false, 6, "no"}, {1, 3, false, 6, "only"}},
		"two to one":           {{0, 2, false, 2, ""}, {1, 1, false, 2, "only"}},
		"errors":               {{0, 2, false, 2, ""}, {1, -1, false, 2, "broken wire"}, {time.Hour, -1, false, 2, "broken wire"}, {1, 2, false, 2, ""}},
		"too many":             {{0, 2, false, 2, ""}, {1, endpointsMax + 1, false, 2, "at most 10000"}},
		"empty first":          {{0, 0, false, 0, "no endpoints"}, {1, 2, false, 2, ""}},
	} {
		var g membership
		for i, s := range steps {
			now = now.Add(s.after)
			if s.n < 0 {
				g.fail(now, errors.New("broken wire"))
			} else {
				f := setOf(s.n)
				f.same = s.same
				g.offer(now, f)
			}
			if len(g.set) != s.want || (g.held == "") != (s.held == "") || !strings.Contains(g.held, s.held) {
				t.Errorf("%s, step %d: %d in use, held %q, want %d and %q", name, i, len(g.set), g.held, s.want, s.held)
			}
		}
	}
}

// A pool that follows a file: good, bad, empty, halved, good again.
func TestPoolFollowsFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "targets.json")
	write := func(text string) {
		if err := os.WriteFile(path+".new", []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
	}
	write(`[{"targets": ["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80", "10.0.0.4:80"], "labels": {"zone": "a", "weight": "3"}}]`)
	synctest.Test(t, func(t *testing.T) {
		cfg := *setup(t, site.MethodLeastRequests, 0).cfg
		cfg.Discover = &site.Discover{File: &site.DiscoverFile{Path: path}}
		p, err := New(&cfg, Deps{Seed: 1})
		if err != nil {
			t.Fatal(err)
		}
		stop := running(t, p)
		defer stop()
		expect := func(n int, held string) {
			t.Helper()
			pass(fileEvery + time.Millisecond)
			synctest.Wait()
			s := p.Status()
			members := 0
			for _, e := range s.Endpoints {
				if !e.Leaving {
					members++
				}
			}
			if members != n || s.Membership.Held != (held != "") || !strings.Contains(s.Membership.Reason, held) {
				t.Errorf("%d members, held %q, want %d and %q", members, s.Membership.Reason, n, held)
			}
		}
		expect(4, "")
		if e := p.Status().Endpoints[0]; e.Zone != "a" || e.Weight != 3 || !p.Ready() {
			t.Errorf("the endpoint is %+v, ready %v", e, p.Ready())
		}
		write(`[{"targets": ["10.0.0.1:80"]`)
		expect(4, "cannot read JSON or YAML")
		write(`- targets: [10.0.0.1:80, 10.0.0.2]`)
		expect(4, `group 1, target 2: address "10.0.0.2" is not host:port`)
		write(`[]`)
		expect(4, "no endpoints")
		write(`- targets: [10.0.0.1:80]`)
		expect(4, "only 1 endpoints were found, 4 were there")
		pass(heldFor)
		expect(1, "")
		os.Remove(path)
		expect(1, "no such file")
		write(`- targets: ["10.0.0.1:80", "10.0.0.7:80"]`)
		expect(2, "")
	})
}

func TestParseFile(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"json", `[{"targets":["a:1","b:2"],"labels":{"zone":"z","priority":"2","env":"x"}}]`, "[{a:1 1 z 2} {b:2 1 z 2}]"},
		{"yaml", "- targets: [a:1]\n  labels: {weight: 7}\n- targets: ['[::1]:80']\n", "[{a:1 7  1} {[::1]:80 1  1}]"},
		{"none", "[]", "[]"},
		{"empty", " \n", "the file is empty: a list of {targets, labels} is allowed, [] for none"},
		{"null", "null", "the file has no list: a list of {targets, labels} is allowed, [] for none"},
		{"not a list", "targets: [a:1]", "cannot read JSON or YAML: yaml: unmarshal errors:\n  line 1: cannot unmarshal !!map into []pool.fileGroup"},
		{"unknown key", `[{"target":["a:1"]}]`, `cannot read JSON: json: unknown field "target"`},
		{"no port", "- targets: [a]", `group 1, target 1: address "a" is not host:port`},
		{"bad port", "- targets: [a:99999]", `group 1, target 1: address "a:99999" has port "99999": 1 to 65535 is allowed`},
		{"no host", "- targets: [':80']", `group 1, target 1: address ":80" has no host`},
		{"weight", "- targets: [a:1]\n  labels: {weight: heavy}", `group 1: label weight is "heavy": 0 to 65535 is allowed`},
		{"priority", `[{"targets":["a:1"],"labels":{"priority":17}}]`, `group 1: label priority is "17": 1 to 16 is allowed`},
		{"twice", "- targets: [a:1]\n- targets: [a:1]", `group 2, target 1: address "a:1" stands there twice`},
	} {
		set, err := parseFile([]byte(c.text))
		got := fmt.Sprint(set)
		if err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

func FuzzParseFile(f *testing.F) {
	for _, s := range []string{`[{"targets":["a:1"],"labels":{"weight":"2"}}]`, "- targets: [a:1]\n  labels: {zone: x}", "[]", "&a [*a]", "{}", "- - -"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		set, err := parseFile(data)
		if err != nil {
			return
		}
		for _, e := range set {
			if checkAddress(e.Address) != nil || e.Weight < 0 || e.Weight > 65535 || e.Priority < 1 || e.Priority > prioritiesMax {
				t.Fatalf("%q yields %+v", data, e)
			}
		}
	})
}
