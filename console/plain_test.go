package console

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var rewrite = flag.Bool("rewrite", false, "write the golden files anew")

// golden compares got with a file in testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *rewrite {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs (go test ./console -rewrite writes it anew); got:\n%s", name, got)
	}
}

// stillView is one view of the lively node at a fixed time.
func stillView() View {
	f := newFakeNode()
	f.now = func() time.Time { return time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC) }
	return f.View()
}

func TestPlain(t *testing.T) {
	var b bytes.Buffer
	if err := Plain(&b, stillView()); err != nil {
		t.Fatal(err)
	}
	golden(t, "plain.txt", b.String())
	b.Reset()
	if err := Plain(&b, View{}); err != nil {
		t.Fatal(err)
	}
	golden(t, "plain-empty.txt", b.String())
}

func TestPlainTroubled(t *testing.T) {
	v := stillView()
	v.Node.Ready, v.Node.Why, v.Node.LastReload.OK, v.Node.LastReload.Error = false, "pool shop: no verdict yet", false, "site.yaml:3:5: unknown key\nsite.yaml:4:1: no\x1b unit"
	v.Pools[0].Panic, v.Pools[0].Held = true, "discovery brought no endpoint"
	v.Pools[0].Endpoints[3].Why = "status \x1b[31m503\x1b[0m\nnew line\u202e"
	var b bytes.Buffer
	if err := Plain(&b, v); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"not ready, pool shop: no verdict yet", "stays in force:\n  site.yaml:3:5: unknown key\n  site.yaml:4:1: no  unit\n", "sick endpoints are used too", "last good set is kept: discovery"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("the text lacks %q", want)
		}
	}
	if strings.ContainsAny(b.String(), "\x1b\u202e") || !strings.Contains(b.String(), "503 [0m new line") {
		t.Error("an endpoint's reason can steer the terminal")
	}
}

func TestFigures(t *testing.T) {
	for _, c := range []struct{ got, want string }{
		{rateText(0), "0"}, {rateText(.04), "0"}, {rateText(3.44), "3.4"}, {rateText(9.96), "10"}, {rateText(1234.4), "1,234"}, {rateText(2.5e6), "2.50M"}, {rateText(-1), none},
		{LimitLoad{Rate: 1. / 3600, Burst: 5}.Allows(), "1.0/h, burst 5.0"}, {LimitLoad{Rate: 10. / 60, Burst: 1}.Allows(), "10/m, burst 1.0"}, {LimitLoad{Rate: 1, Burst: 2000}.Allows(), "1.0/s, burst 2,000"},
		{countText(0), "0"}, {countText(999), "999"}, {countText(1000), "1,000"}, {countText(999_999), "999,999"}, {countText(1_234_567), "1.23M"}, {countText(999_999_999), "1.00G"}, {countText(1<<64 - 1), "18.4E"},
		{bytesText(0), "0 B"}, {bytesText(999), "999 B"}, {bytesText(1000), "1 kB"}, {bytesText(38_240_000), "38.2 MB"}, {bytesText(999_999), "1 MB"},
		{msText(0), none}, {msText(.031), "31 µs"}, {msText(.31), "0.3 ms"}, {msText(9.96), "10 ms"}, {msText(143.4), "143 ms"}, {msText(999.6), "1.0 s"}, {msText(-1), none},
		{spanText(-1), "0 s"}, {spanText(59 * time.Second), "59 s"}, {spanText(time.Hour), "1 h"}, {spanText(61 * time.Second), "1 min 1 s"}, {spanText(50 * time.Hour), "2 d 2 h"},
		{unitText("/s")(.03), "0.03/s"}, {unitText("/s")(.06), "0.06/s"}, {unitText("/s")(.15), "0.15/s"}, {unitText("/s")(1.5), "1.5/s"}, {unitText("/s")(0), "0/s"}, {percentText(0), "0%"}, {percentText(.001), "<1%"}, {percentText(.5), "50%"}, {percentText(.9996), "99.9%"}, {percentText(1), "100%"}, {percentText(-1), none},
		{reasons(map[string]uint64{"b": 1, "a": 1, "c": 2000, "d": 0}), "c 2,000, a 1, b 1"},
	} {
		if c.got != c.want {
			t.Errorf("got %q, want %q", c.got, c.want)
		}
	}
}
