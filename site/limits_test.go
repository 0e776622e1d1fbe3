package site

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestLimits: whatever is too much is one clear mistake, soon.
func TestLimits(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"large", "name: " + strings.Repeat("a", maxFileBytes), "the file is larger than 4MiB, the limit"},
		{"long list", "routes: [" + strings.Repeat("x,", maxItems+1) + "]", "more than 50000 things stand here"},
		{"deep flow", "name: " + strings.Repeat("[", 20_000), "nested far too deep"},
		{"deep", "name: " + strings.Repeat("[", maxDepth+1) + strings.Repeat("]", maxDepth+1), "nested more than 32 deep"},
		{"open quote far up", "name: \"a\n" + strings.Repeat("b: c\n", maxSearch/5+1), "a quote that was opened above is not closed"},
		{"variable", "state_dir: " + strings.Repeat("${SET}", maxText/5+1), "longer than 64KiB"},
		{"UTF-16", "\xff\xfea\x00", "UTF-16"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := parse("x.yaml", []byte(c.text), noDisk())
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got %v, want %q", err, c.want)
			}
			checkMistakes(t, err)
		})
	}
}

func TestManyMistakesAreCounted(t *testing.T) {
	_, err := Parse("x.yaml", []byte("routes: ["+strings.Repeat("x,", maxMistakes+50)+"]"))
	if err == nil || !strings.HasSuffix(err.Error(), "\nand 51 more") { // 50, and the listeners
		t.Fatalf("%.2000v", err)
	}
}

func TestTooManyFiles(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "d"), 0o700); err != nil {
		t.Fatal(err)
	}
	for i := range maxFiles + 5 {
		write(t, filepath.Join(dir, "d", fmt.Sprintf("%03d.yaml", i)), "")
	}
	write(t, filepath.Join(dir, "site.yaml"), "include: [d]")
	_, err := Load(filepath.Join(dir, "site.yaml"))
	if err == nil || strings.Count(err.Error(), "at most 100 files") != 1 {
		t.Fatal(err)
	}
}

func TestFilesThatCannotBeRead(t *testing.T) {
	dir := t.TempDir()
	for path, want := range map[string]string{
		dir:                            dir + ": it is a folder; name a file, for example one that says include: [" + dir + "]",
		filepath.Join(dir, "gone.yml"): filepath.Join(dir, "gone.yml") + ": there is no such file",
		os.DevNull:                     os.DevNull + ": cannot be read: it is not a regular file",
	} {
		if _, err := Load(path); err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

// TestFilesOfASite: everything that must be watched is named, folders too.
func TestFilesOfASite(t *testing.T) {
	s, err := Load("testdata/good/include.yaml")
	if err != nil {
		t.Fatal(err)
	}
	here, _ := filepath.Abs("testdata/good")
	want := "include.yaml conf.d conf.d/a.yaml conf.d/b.yaml conf.d/token"
	if got := strings.ReplaceAll(strings.Join(s.Files, " "), here+"/", ""); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if s.Admin.Token != "bearer of news" || s.Admin.Listen != ":7600" || len(s.Identify.TrustedProxies) != 2 || s.Routes[2].Name != "route-3" {
		t.Errorf("merged wrongly: %+v", s)
	}
	if text := fmt.Sprintf("%v %+v %#v %s", s.Admin, s.Admin, s.Admin, s.Admin.Token); strings.Contains(text, "news") {
		t.Errorf("the secret shows in %s", text)
	}
}

// TestDependentDefaults: what hangs on another field follows it, unless it is given.
func TestDependentDefaults(t *testing.T) {
	s, err := Parse("x.yaml", []byte("listeners: {web: {listen: ':80', limits: {connections: 1}}}\npools: {a: {endpoints: [h:80], connections: {max: 10}, probe: {rise: 2}}}"))
	if err != nil {
		t.Fatal(err)
	}
	if got := s.Listeners["web"].Limits.ConnectionsPerIP; got != 1 {
		t.Errorf("%d connections per address, want 1", got)
	}
	if p := s.Pools["a"]; p.Connections.Idle != 10 || p.Probe.TCP == nil || p.Probe.Rise != 2 || p.Probe.Fall != 3 || p.Endpoints[0].Weight != 1 {
		t.Errorf("%+v %+v", p, p.Probe)
	}
	const detour = "listeners: {web: {listen: ':80'}}\npools: {a: {endpoints: [h:80]}}\nroutes: [{paths: [/b], pool: a, fallback: {redirect: {host: b}}}, {redirect: {host: b}}]"
	if s, err := Parse("x.yaml", []byte(detour)); err != nil || s.Routes[0].Fallback.Redirect.Status != 307 || s.Routes[1].Redirect.Status != 308 {
		t.Errorf("redirects for a while and for good: %v", err)
	}
	if len(s.Routes) != 1 || s.Routes[0].Name != "default" || s.Routes[0].Class != ClassStandard {
		t.Errorf("%+v", s.Routes)
	}
}
