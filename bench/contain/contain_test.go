package contain

import (
	"context"
	"strings"
	"testing"
	"time"
)

// Every fault is what it says: what a client sees of an endpoint alone.
func TestFaults(t *testing.T) {
	for kind, want := range map[string]int{well: 200, slow: 200, hang: 0, fail: 500, mute: 0, garbage: 0, reset: 0} {
		e, err := startEndpoint(0, time.Millisecond)
		if err != nil {
			t.Fatal(err)
		}
		e.sicken(kind)
		d := run(t.Context(), 200*time.Millisecond, 1, []stream{{url: "http://" + e.address + "/work", rate: 50, patience: time.Second}})
		if len(d.requests) == 0 {
			t.Fatalf("%q: nothing was sent", kind)
		}
		for _, r := range d.requests {
			if r.status != want {
				t.Errorf("%q: a client saw %d, want %d", kind, r.status, want)
			}
		}
		if kind == hang && e.hangs() == 0 {
			t.Error("nothing hung")
		}
		e.stop()
	}
}

// An endpoint of two workers has one queue.
func TestEndpointWorksOnAFew(t *testing.T) {
	e, err := startEndpoint(2, 100*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	defer e.stop()
	now := time.Now()
	for i, want := range []time.Duration{100, 100, 200, 200, 300} {
		if due := e.assign(now, 1).Sub(now); due != want*time.Millisecond {
			t.Errorf("request %d is due after %v, want %v", i, due, want*time.Millisecond)
		}
	}
}

func TestNoticed(t *testing.T) {
	from := time.Unix(1_700_000_000, 0)
	var came []time.Time
	for i := range 120 { // two seconds at its share
		came = append(came, from.Add(time.Duration(i)*time.Second*sickEndpoints/sickRate))
	}
	took, ok := noticed(came, from, from.Add(10*time.Second))
	if !ok || took < 1700*time.Millisecond || took > 2*time.Second {
		t.Errorf("noticed after %v, %v; want a little less than the 2s in which requests came", took, ok)
	}
	if _, ok := noticed(came, from, from.Add(2*time.Second)); ok {
		t.Error("noticed though requests came until the end")
	}
}

func TestChoose(t *testing.T) {
	if list, err := choose("", "", nil); err != nil || len(list) != 3 {
		t.Errorf("%d scenarios, %v; want all three", len(list), err)
	}
	if list, err := choose("zones,sick", "", nil); err != nil || len(list) != 2 || list[0].name != "zones" {
		t.Errorf("%v, %v", list, err)
	}
	for _, bad := range [][3]string{{"nothing", "", ""}, {"", "nobody", ""}, {"", "", "word"}} {
		if _, err := choose(bad[0], bad[1], strings.Fields(bad[2])); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
	if code := Main(context.Background(), []string{"-no-such-flag"}); code != wrongUse {
		t.Errorf("exit code %d, want %d", code, wrongUse)
	}
}

func TestSitesAreSites(t *testing.T) {
	z := []*zone{{name: "a"}, {name: "b"}, {name: "c"}}
	for _, text := range []string{sickSite("127.0.0.1:1", "127.0.0.1:2", []string{"127.0.0.1:3"}), zoneHaproxy("127.0.0.1:1", 1, z),
		hungSite("127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3", "127.0.0.1:4")} {
		if strings.Contains(text, "%!") {
			t.Errorf("a wrong format: %s", text)
		}
	}
}
