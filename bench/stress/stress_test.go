package stress

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"
)

// cutOff at the end of an answer ends the connection there.
const cutOff = "<cut>"

// answering is a server that gives every request what answer says; the connection ends after an empty answer.
func answering(t *testing.T, answer func(conn, request int, r *http.Request) string) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for conn := 0; ; conn++ {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				in := bufio.NewReader(c)
				for i := 0; ; i++ {
					r, err := http.ReadRequest(in)
					if err != nil {
						return
					}
					_, _ = io.Copy(io.Discard, r.Body)
					text := answer(conn, i, r)
					text, cut := strings.CutSuffix(text, cutOff)
					_, _ = io.WriteString(c, text)
					if text == "" || cut {
						return
					}
				}
			}()
		}
	}()
	return ln.Addr().String()
}

func right(r *http.Request) string {
	text := fmt.Sprintf("id=%s body=%d\n", r.Header.Get("X-Id"), r.ContentLength)
	return fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(text), text)
}

func TestCallerCountsEveryFailure(t *testing.T) {
	for _, k := range []struct {
		name   string
		posts  int
		answer func(conn, request int, r *http.Request) string
		want   tally
		why    string
	}{
		{"all right", 2, func(_, _ int, r *http.Request) string { return right(r) }, tally{Sent: 10, OK: 10}, ""},
		{"a kept connection ends before a GET is answered", 0, func(conn, i int, r *http.Request) string {
			if i == 5 {
				return ""
			}
			return right(r)
		}, tally{Sent: 10, OK: 10, Resent: 1}, ""},
		{"a kept connection ends before a POST is answered", 1, func(conn, i int, r *http.Request) string {
			if conn == 0 && i == 5 {
				return ""
			}
			return right(r)
		}, tally{Sent: 10, OK: 9, Failed: 1}, "kept connection ended"},
		{"a new connection ends at once", 0, func(conn, i int, r *http.Request) string { return "" }, tally{Sent: 10, Failed: 10}, "EOF"},
		{"a refusal", 0, func(conn, i int, r *http.Request) string {
			return "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 16\r\n\r\n{\"reason\": \"no\"}"
		}, tally{Sent: 10, Failed: 10}, `status 503: "no"`},
		{"the answer to another request", 0, func(conn, i int, r *http.Request) string {
			r.Header.Set("X-Id", "77")
			return right(r)
		}, tally{Sent: 10, Failed: 10, Wrong: 10}, "another request"},
		{"an answer that ends too early", 0, func(conn, i int, r *http.Request) string {
			return "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nid=" + cutOff
		}, tally{Sent: 10, Failed: 10}, "cut off"},
	} {
		t.Run(k.name, func(t *testing.T) {
			c := &caller{address: answering(t, k.answer), path: "/", posts: k.posts}
			var got tally
			var l line
			for i := range int64(10) {
				c.one(&l, i, time.Now(), &got)
			}
			l.close()
			if got.Sent != k.want.Sent || got.OK != k.want.OK || got.Failed != k.want.Failed || got.Resent != k.want.Resent || got.Wrong != k.want.Wrong {
				t.Errorf("%v, want %v", got, k.want)
			}
			for _, f := range got.failures {
				if !strings.Contains(f.why, k.why) {
					t.Errorf("failed for %q, want %q", f.why, k.why)
				}
			}
		})
	}
}

func TestCallerSendsAtItsRate(t *testing.T) {
	c := &caller{address: answering(t, func(_, _ int, r *http.Request) string { return right(r) }), path: "/", rate: 1000, workers: 4}
	c.start(context.Background())
	for c.next.Load() < 50 {
		select {
		case <-c.done:
			t.Fatal("it stopped by itself")
		case <-time.After(time.Millisecond):
		}
	}
	got := c.stop()
	if got.OK != got.Sent || got.OK < 40 || len(got.took) != got.OK || !slices.IsSorted(got.took) {
		t.Errorf("%v", got)
	}
	if took := time.Duration(float64(got.Sent) / got.Rate * float64(time.Second)); took < 40*time.Millisecond {
		t.Errorf("%d requests of a rate of 1000/s took only %s", got.Sent, took)
	}
}

func TestTalliesAddUp(t *testing.T) {
	var sum tally
	part := tally{Sent: 3, OK: 1, Failed: 2, Resent: 1, NotSent: 4, took: []time.Duration{1}, failures: []failure{{why: "a"}, {why: "b"}}}
	sum.add(part)
	sum.add(part)
	if sum.Sent != 6 || sum.OK != 2 || sum.Failed != 4 || sum.Resent != 2 || sum.NotSent != 8 || len(sum.took) != 2 || sum.Reasons["a"] != 2 {
		t.Errorf("%+v", sum)
	}
	if got := sum.share(); got != 2.0/14 {
		t.Errorf("share %v", got)
	}
	if got := (tally{}).share(); got != 0 {
		t.Errorf("share of nothing %v", got)
	}
}

func TestSeedsAreRead(t *testing.T) {
	got, err := readSeeds(`# two lengths
"GET / HTTP/1.1\r\n"
"Content-Length: 5\r\n\r\n"
=> error 400 bad_length: …

# fine
"GET / HTTP/1.1\r\n\r\n"
=> GET "/"

# with limits of its own
limits 64 2
"GET / HTTP/1.1\r\n\r\n"
=> error 431 x: …
`)
	if err != nil || len(got) != 2 {
		t.Fatalf("%v, %v", got, err)
	}
	if got[0].name != "two lengths" || got[0].status != 400 || string(got[0].head) != "GET / HTTP/1.1\r\nContent-Length: 5\r\n\r\n" || got[1].status != 0 {
		t.Errorf("%+v", got)
	}
	if _, err := readSeeds("# x\n\"unfinished\n"); err == nil {
		t.Error("a broken string is no error")
	}
}

// Malformed heads are told apart by who refused them.
func TestSendTellsWhoRefused(t *testing.T) {
	service := httptest.NewServer(http.NotFoundHandler())
	defer service.Close()
	if a := send(service.Listener.Addr().String(), 0, []byte("GET / HTTP/1.1\r\nBad Name: x\r\n\r\n")); a.status != 400 || !a.byEndpoint {
		t.Errorf("net/http: %+v", a)
	}
	own := answering(t, func(_, _ int, _ *http.Request) string {
		return "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 400 Bad Request\r\nContent-Length: 17\r\n\r\n{\"reason\": \"bad\"}"
	})
	if a := send(own, 0, []byte("GET / HTTP/1.1\r\nHost: a\r\n\r\n")); a.status != 400 || a.byEndpoint {
		t.Errorf("a refusal of its own: %+v", a)
	}
}

func TestChoose(t *testing.T) {
	if all, err := choose([]string{"all"}); err != nil || len(all) != len(experiments()) {
		t.Errorf("all: %d, %v", len(all), err)
	}
	if two, err := choose([]string{"kill", "reloads"}); err != nil || len(two) != 2 || two[0].name != "kill" {
		t.Errorf("two: %v, %v", two, err)
	}
	for _, names := range [][]string{nil, {"none"}, {"kill", "all"}} {
		if list, err := choose(names); err == nil {
			t.Errorf("%v gives %d experiments", names, len(list))
		}
	}
}

func TestExitCodeOfResults(t *testing.T) {
	for _, k := range []struct {
		verdicts []string
		want     int
	}{
		{[]string{"held", "held"}, held},
		{[]string{"held", "NOT HELD"}, notHeld},
		{[]string{"COULD NOT RUN", "NOT HELD"}, silent},
	} {
		var list []*result
		for _, v := range k.verdicts {
			list = append(list, &result{Verdict: v})
		}
		if got := exitCode(list); got != k.want {
			t.Errorf("%v: %d, want %d", k.verdicts, got, k.want)
		}
	}
}

func TestWaitGivesUpAtOnceOnWhatIsOver(t *testing.T) {
	tries := 0
	err := wait(time.Hour, func() error {
		if tries++; tries < 2 {
			return errors.New("not yet")
		}
		return fatal{errors.New("it ended")}
	})
	if tries != 2 || err == nil || err.Error() != "it ended" {
		t.Errorf("%d tries, %v", tries, err)
	}
}
