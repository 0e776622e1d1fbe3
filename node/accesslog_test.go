package node

import (
	"context"
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/site"
)

func logged(t *testing.T) *exchange.Exchange {
	x := request(t, "GET /a?b=\"c HTTP/1.1\nHost: shop.example\nUser-Agent: x\ty")
	x.Start = time.Date(2026, 3, 4, 5, 6, 7, 890e6, time.UTC)
	x.RequestID, x.IP = []byte("id-1"), netip.MustParseAddr("203.0.113.9")
	x.Route, x.Endpoint, x.Attempt = &exchange.Route{Name: "all"}, &exchange.Endpoint{Pool: "shop", Address: "10.0.0.1:80"}, 2
	x.Outcome = exchange.Outcome{Status: 200, BytesOut: 12, FirstByte: 2 * time.Millisecond}
	return x
}

func TestLogLines(t *testing.T) {
	x := logged(t)
	want := `{"time":"2026-03-04T05:06:07.890Z","listener":"web","protocol":"http/1","client":"203.0.113.9","id":"id-1","method":"GET",` +
		`"host":"shop.example","target":"/a?b=\"c","status":200,"agent":"x\u0009y","bytes_in":0,"bytes_out":12,"took_ms":3.500,"first_byte_ms":2.000,` +
		`"route":"all","class":"standard","pool":"shop","endpoint":"10.0.0.1:80","attempts":2}` + "\n"
	if got := string(appendJSON(nil, x, nil, 200, 3500*time.Microsecond)); got != want {
		t.Errorf("got  %swant %s", got, want)
	}
	want = `203.0.113.9 - - [04/Mar/2026:05:06:07 +0000] "GET /a?b=\"c HTTP/1.1" 200 12` + "\n"
	if got := string(appendCommon(nil, x, 200)); got != want {
		t.Errorf("got  %swant %s", got, want)
	}
	refused := string(appendJSON(nil, x, refuseNoRoute, 404, 0))
	if !strings.Contains(refused, `"refused_by":"route","reason":"no_route"`) {
		t.Errorf("a refusal is not in %s", refused)
	}
}

func FuzzLogText(f *testing.F) {
	f.Add("a\"b\\c\n\x00\xff\u2028é")
	f.Fuzz(func(t *testing.T, s string) {
		line := appendText(nil, s)
		var back string
		if err := json.Unmarshal(line, &back); err != nil {
			t.Fatalf("%q becomes %q, which is no JSON: %v", s, line, err)
		}
		if want := strings.ToValidUTF8(s, "\ufffd"); len(s) < logText && !strings.Contains(back, "\ufffd") && back != want {
			t.Errorf("%q came back as %q", s, back)
		}
		if strings.ContainsAny(string(line), "\n\r") {
			t.Errorf("%q breaks the line", line)
		}
	})
}

func TestAccessLogSamplesAndDrops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "access.log")
		var dropped atomic.Uint64
		l, err := newAccessLog(site.AccessLog{Path: path, Format: "json", Sample: 0}, &dropped)
		if err != nil {
			t.Fatal(err)
		}
		x := logged(t)
		l.note(x, nil, 200, 0) // not in the sample
		l.note(x, refuseNoRoute, 404, 0)
		l.note(x, nil, 502, 0)
		x.Outcome.Truncated = true
		l.note(x, nil, 200, 0)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			_ = l.run(ctx)
		}()
		pass(time.Second)
		synctest.Wait()
		if b, _ := os.ReadFile(path); strings.Count(string(b), "\n") != 3 {
			t.Errorf("the log holds %q, want the three that failed", b)
		}
		cancel()
		<-ended
		// Nobody writes any more: the queue fills, and the rest is dropped without waiting.
		for range logQueue + 7 {
			l.note(x, refuseNoRoute, 404, 0)
		}
		if dropped.Load() != 7 {
			t.Errorf("%d lines dropped, want 7", dropped.Load())
		}
	})
	if _, err := newAccessLog(site.AccessLog{Path: "/no/such/folder/log"}, nil); err == nil {
		t.Error("a log in a folder that is not there was opened")
	}
	if l, err := newAccessLog(site.AccessLog{Path: "off"}, nil); l != nil || err != nil {
		t.Errorf("off gives %v, %v", l, err)
	}
}
