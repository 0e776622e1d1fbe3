package cache

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/site"
	"github.com/even-keel/evenkeel/wire"
)

// thing is an object of so many bytes.
func thing(key string, size int, now time.Time) *Object {
	o := &Object{key: key, extra: "r\x00", status: 200, body: make([]byte, size), born: now, life: time.Minute}
	o.weigh()
	return o
}

func TestStoreKeepsItsBound(t *testing.T) {
	const most = 1 << 20
	r := rand.New(rand.NewPCG(1, 2))
	s, now := newStore(most), time.Unix(1e9, 0)
	for i := range 20_000 {
		now = now.Add(time.Duration(r.IntN(20)) * time.Millisecond)
		key := fmt.Sprint("http://a/", r.IntN(500))
		switch r.IntN(10) {
		case 0:
			s.forget([]byte(key))
		case 1:
			s.purge("", "http://a/1")
		case 2, 3, 4:
			s.find(&query{key: []byte(key), extra: []byte("r\x00"), hash: s.hash([]byte(key)), now: now})
		default:
			s.put(thing(key, r.IntN(20_000), now), now)
		}
		if got := s.bytes.Load(); got > most || got < 0 {
			t.Fatalf("after %d steps: %d bytes of %d", i, got, most)
		}
	}
	var bytes, n, listed int64
	for i := range s.tables {
		for _, o := range s.tables[i].byKey {
			for ; o != nil; o = o.next {
				bytes, n = bytes+o.size, n+1
			}
		}
	}
	for _, l := range []*list{&s.small, &s.main} {
		for o := l.head; o != nil; o = o.back {
			listed++
		}
	}
	if bytes != s.bytes.Load() || n != s.entries.Load() || n != listed || n == 0 {
		t.Errorf("%d bytes in %d objects, %d in queues; counted %d in %d", bytes, n, listed, s.bytes.Load(), s.entries.Load())
	}
	s.bound(0, 0, now)
	if s.entries.Load() != 0 {
		t.Error("a bound of nothing keeps something")
	}
	if s.put(thing("http://a/large", most/4, now), now) {
		t.Error("one object took a quarter of the memory")
	}
}

// Who asks for everything once does not push out what is asked for often.
func TestStoreResistsScans(t *testing.T) {
	s, now := newStore(1<<20), time.Unix(1e9, 0)
	ask := func(key string) bool {
		f := s.find(&query{key: []byte(key), extra: []byte("r\x00"), hash: s.hash([]byte(key)), now: now})
		if f.object == nil {
			s.put(thing(key, 1000, now), now)
		}
		return f.object != nil
	}
	hits := 0
	for i := range 20_000 {
		ask(fmt.Sprint("http://a/scan", i))
		if ask(fmt.Sprint("http://a/hot", i%200)) {
			hits++
		}
	}
	if hits < 18_500 {
		t.Errorf("%d of 20000 requests for popular things were hits", hits)
	}
}

func TestStoreBoundsVariants(t *testing.T) {
	s, now := newStore(1<<20), time.Unix(1e9, 0)
	for i := range 100 {
		o := thing("http://a/", 10, now)
		o.vary = []varied{{"accept", fmt.Sprint(i)}}
		s.put(o, now)
	}
	if n := s.entries.Load(); n != maxVariants {
		t.Errorf("%d variants of one key", n)
	}
}

// crowd is a stand whose endpoint waits for a word.
type crowd struct {
	*stand
	asked  atomic.Int64
	answer chan func(*exchange.Exchange) *exchange.Refusal
	next   *exchange.Next
	ending exchange.Ending // of answers; newCrowd: whole
}

func newCrowd(t *testing.T, wait time.Duration) *crowd {
	c := &crowd{stand: newStand(t), answer: make(chan func(*exchange.Exchange) *exchange.Refusal), ending: exchange.Whole}
	c.c.deps.Now = time.Now
	c.c.deps.Answer = func(x *exchange.Exchange, status int, _ []wire.Field, body []byte) *exchange.Refusal {
		x.Outcome.Status = status
		return nil
	}
	c.policy.Wait = wait
	c.build()
	c.next = exchange.Then(func(x *exchange.Exchange) *exchange.Refusal {
		c.asked.Add(1)
		return (<-c.answer)(x)
	})
	return c
}

// reply answers with a status and fields.
func (c *crowd) reply(status int, body string, fields ...string) func(*exchange.Exchange) *exchange.Refusal {
	return func(x *exchange.Exchange) *exchange.Refusal {
		x.Result.Status = status
		if taking, _ := x.Tap.Head(x, status, c.fields(fields), int64(len(body))); taking != exchange.TakeNothing {
			x.Tap.Body(x, []byte(body))
			x.Tap.End(x, c.ending)
		}
		x.Outcome.Status = status
		return nil
	}
}

type ended struct {
	status  int
	refusal string
}

// send sends n requests at once.
func (c *crowd) send(n int, fields ...string) chan ended {
	out := make(chan ended, n)
	for range n {
		go func() {
			r := &wire.Request{Method: []byte("GET"), Target: []byte("/x"), Host: []byte("a"), Fields: c.fields(fields), ContentLength: -1}
			x := &exchange.Exchange{Request: r, Host: r.Host, Route: &exchange.Route{Name: "all"}, Client: netip.MustParseAddrPort("192.0.2.1:1")}
			e := ended{}
			defer func() {
				if recover() != nil {
					out <- ended{refusal: "panic"}
				}
			}()
			if refusal := c.stage.Serve(x, c.next); refusal != nil {
				e.refusal = refusal.Reason
			}
			e.status = x.Outcome.Status
			out <- e
		}()
	}
	synctest.Wait()
	return out
}

func count(t *testing.T, out chan ended) string {
	t.Helper()
	synctest.Wait()
	n := map[ended]int{}
	for len(out) > 0 {
		n[<-out]++
	}
	return strings.TrimPrefix(fmt.Sprint(n), "map")
}

func TestCoalescing(t *testing.T) {
	fresh := "Cache-Control: max-age=60"
	for _, one := range []struct {
		name string
		do   func(c *crowd) string
		want string
	}{
		{"one asks, all are answered", func(c *crowd) string {
			out := c.send(50)
			c.answer <- c.reply(200, "a", fresh)
			return fmt.Sprintln(count(t, out), c.asked.Load())
		}, "[{200 }:50] 1"},
		{"a failed leader hands over to one", func(c *crowd) string {
			out := c.send(50)
			c.answer <- c.reply(500, "a")
			synctest.Wait()
			between := c.asked.Load()
			c.answer <- c.reply(200, "a", fresh)
			return fmt.Sprintln(count(t, out), between, c.asked.Load())
		}, "[{200 }:49 {500 }:1] 2 2"},
		{"a refusal that would meet all is told to all", func(c *crowd) string {
			out := c.send(50)
			c.answer <- func(*exchange.Exchange) *exchange.Refusal { return &exchange.Refusal{Reason: "down"} }
			return fmt.Sprintln(count(t, out), c.asked.Load())
		}, "[{0 down}:50] 1"},
		{"a refusal by the shedder is for one alone", func(c *crowd) string {
			out := c.send(3)
			c.answer <- func(*exchange.Exchange) *exchange.Refusal { return &exchange.Refusal{Reason: "overloaded"} }
			c.answer <- c.reply(200, "a", fresh)
			return fmt.Sprintln(count(t, out), c.asked.Load())
		}, "[{0 overloaded}:1 {200 }:2] 2"},
		{"what cannot be shared is asked for by all, and not waited for again", func(c *crowd) string {
			out := c.send(5)
			c.answer <- c.reply(200, "a", "Cache-Control: private")
			synctest.Wait()
			between := c.asked.Load()
			for range 4 {
				c.answer <- c.reply(200, "a", "Cache-Control: private")
			}
			first := count(t, out)
			out = c.send(3)
			later := c.asked.Load()
			for range 3 {
				c.answer <- c.reply(200, "a", "Cache-Control: private")
			}
			return fmt.Sprintln(first, between, later, count(t, out))
		}, "[{200 }:5] 5 8 [{200 }:3]"},
		{"so is what ends with trailers", func(c *crowd) string {
			c.ending = exchange.Trailed
			out := c.send(5)
			c.answer <- c.reply(200, "a", fresh)
			synctest.Wait()
			between := c.asked.Load()
			for range 4 {
				c.answer <- c.reply(200, "a", fresh)
			}
			first := count(t, out)
			out = c.send(3)
			later := c.asked.Load()
			for range 3 {
				c.answer <- c.reply(200, "a", fresh)
			}
			return fmt.Sprintln(first, between, later, count(t, out))
		}, "[{200 }:5] 5 8 [{200 }:3]"},
		{"who waits too long asks alone", func(c *crowd) string {
			out := c.send(3)
			<-time.After(5 * time.Second)
			synctest.Wait()
			between := c.asked.Load()
			for range 3 {
				c.answer <- c.reply(200, "a", fresh)
			}
			return fmt.Sprintln(count(t, out), between)
		}, "[{200 }:3] 3"},
		{"too many waiting ask alone", func(c *crowd) string {
			c.c.flights.most.Store(2)
			out := c.send(5)
			between := c.asked.Load()
			for range 3 {
				c.answer <- c.reply(200, "a", fresh)
			}
			return fmt.Sprintln(count(t, out), between)
		}, "[{200 }:5] 3"},
		{"a panic hands over", func(c *crowd) string {
			out := c.send(3)
			c.answer <- func(*exchange.Exchange) *exchange.Refusal { panic("test") }
			c.answer <- c.reply(200, "a", fresh)
			return fmt.Sprintln(count(t, out), c.asked.Load())
		}, "[{0 panic}:1 {200 }:2] 2"},
	} {
		t.Run(one.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCrowd(t, 5*time.Second)
				if got := strings.TrimSpace(one.do(c)); got != one.want {
					t.Errorf("got %s, want %s", got, one.want)
				}
				if n := c.c.flights.waiting.Load(); n != 0 {
					t.Errorf("%d still wait", n)
				}
				if n := c.c.capturing.Load(); n != 0 {
					t.Errorf("%d bytes still come in", n)
				}
			})
		})
	}
}

// Variants are not known before the first answer: those who need another one ask together then.
func TestCoalescingFollowsVary(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(t, 5*time.Second)
		de := c.send(1, "Accept-Language: de")
		de2, en := c.send(10, "Accept-Language: de"), c.send(10, "Accept-Language: en")
		c.answer <- c.reply(200, "de", "Cache-Control: max-age=60", "Vary: Accept-Language")
		synctest.Wait()
		c.answer <- c.reply(200, "en", "Cache-Control: max-age=60", "Vary: Accept-Language")
		if got := count(t, de) + count(t, de2) + count(t, en); got != "[{200 }:1][{200 }:10][{200 }:10]" || c.asked.Load() != 2 {
			t.Errorf("%s, %d requests", got, c.asked.Load())
		}
	})
}

func TestRunEndsRefreshes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStand(t)
		s.c.deps.Now = time.Now
		stop := make(chan struct{})
		s.c.deps.Alone = func(*exchange.Exchange) func() { return func() { close(stop) } }
		s.next = exchange.Then(func(x *exchange.Exchange) *exchange.Refusal {
			<-stop
			return &exchange.Refusal{Reason: "failed"}
		})
		o := thing("http://a/x", 10, time.Now())
		ctx, cancel := contextWith(t)
		done := make(chan error, 1)
		go func() { done <- s.c.Run(ctx) }()
		w := s.c.work(s.stage.policies[0])
		w.old, w.q.now = o, time.Now()
		x := &exchange.Exchange{Request: &wire.Request{Method: []byte("GET"), Target: []byte("/x")}, Route: &exchange.Route{Name: "all"}}
		w.refresh(x, s.next)
		synctest.Wait()
		if s.c.running.Load() != 1 {
			t.Fatal("nothing is refreshed")
		}
		cancel()
		if err := <-done; err != nil || s.c.running.Load() != 0 || o.refreshing.Load() {
			t.Errorf("%v, %d under way", err, s.c.running.Load())
		}
	})
}

func TestBodiesAreBounded(t *testing.T) {
	s := newStand(t)
	s.policy.Body = 10
	s.build()
	s.do("endpoint 200 body=12345678901 | Cache-Control: max-age=60")
	for range 2 {
		if got := s.do("GET /x"); len(got) != 2 || s.c.Status().Entries != 0 {
			t.Errorf("%q, %d entries", got, s.c.Status().Entries)
		}
	}
	// One of unknown length is given up on the way.
	w := s.c.work(s.stage.policies[0])
	w.a.method, w.q.key, w.asked = methodGet, []byte("http://a/"), s.now
	if taking, _ := w.Head(new(exchange.Exchange), 200, s.fields([]string{"Cache-Control: max-age=60"}), -1); taking != exchange.TakeCopy {
		t.Fatalf("taken as %d", taking)
	}
	if !w.Body(nil, []byte("1234567890")) || w.Body(nil, []byte("1")) || s.c.capturing.Load() != 0 {
		t.Errorf("%d bytes still come in", s.c.capturing.Load())
	}
	s.c.most.Store(20)
	if taking, _ := w.Head(new(exchange.Exchange), 200, s.fields([]string{"Cache-Control: max-age=60"}), 6); taking != exchange.TakeNothing {
		t.Error("more came in than a quarter of the memory")
	}
}

func TestPurge(t *testing.T) {
	s := newStand(t)
	s.do("endpoint 200 body=a | Cache-Control: max-age=60")
	for _, path := range []string{"/a/1", "/a/2", "/b"} {
		s.do("GET " + path)
	}
	if n := s.c.Purge("else", ""); n != 0 {
		t.Errorf("%d of another route", n)
	}
	if n := s.c.Purge("all", "http://shop.example/a/"); n != 2 || s.c.Status().Entries != 1 {
		t.Errorf("%d, %d left", n, s.c.Status().Entries)
	}
	if n := s.c.Purge("", ""); n != 1 || s.c.Status().Bytes != 0 {
		t.Errorf("%d, %d bytes left", n, s.c.Status().Bytes)
	}
	s.do("GET /a")
	s.c.Keep(func(string) bool { return false })
	if s.c.Status().Entries != 0 || len(s.c.Status().Routes) != 0 {
		t.Error("a route that is gone still has answers")
	}
	s.c.Update(site.Cache{Memory: 1 << 20})
}

// TestAnotherAnswerAfterACut: of an answer that was taken back from the client nothing is left when that of the next attempt comes.
func TestAnotherAnswerAfterACut(t *testing.T) {
	s := newStand(t)
	fields := s.fields([]string{"Cache-Control: max-age=60"})
	tap := func(x *exchange.Exchange, how exchange.Ending) int64 {
		if taking, _ := x.Tap.Head(x, 200, fields, 1000); taking != exchange.TakeCopy {
			t.Fatalf("the tap takes %d", taking)
		}
		held := s.c.capturing.Load()
		x.Tap.End(x, how)
		return held
	}
	s.next = exchange.Then(func(x *exchange.Exchange) *exchange.Refusal {
		if first, second := tap(x, exchange.Cut), tap(x, exchange.Cut); first != 1000 || second != first {
			t.Errorf("%d bytes are held for the first answer, %d for the second", first, second)
		}
		return &exchange.Refusal{Reason: "failed"}
	})
	s.do("GET /")
}

func FuzzControl(f *testing.F) {
	for _, text := range []string{"max-age=60", `private="a, b", s-maxage="5"`, `a="\"", =, ;,,"`, "max-stale", "stale-if-error=99999999999999999999", `x="`} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, v []byte) {
		var c Control
		c.Read(v)
		for _, g := range []given{c.MaxAge, c.SMaxAge, c.MinFresh, c.MaxStale, c.WhileRevalidate, c.IfError} {
			if g.d < 0 || g.d > deltaMost || g.d > 0 && !g.set || g.set && g.bad {
				t.Fatalf("%q gives %+v", v, g)
			}
		}
		var twice Control
		twice.Read([]byte(string(v) + ", no-store"))
		if !twice.NoStore && strings.Count(string(v), `"`)%2 == 0 && !strings.Contains(string(v), `\`) {
			t.Fatalf("a directive behind %q was lost", v)
		}
	})
}

func FuzzVary(f *testing.F) {
	f.Add([]byte("Accept, *"), []byte("a, b"), []byte("a"))
	f.Add([]byte("accept,ACCEPT,,x"), []byte(", "), []byte(""))
	f.Fuzz(func(t *testing.T, v, one, two []byte) {
		names, ok := readVary(nil, v)
		if len(names) > maxVary {
			t.Fatalf("%d names", len(names))
		}
		if !ok || len(names) == 0 {
			return
		}
		name := []byte(names[0])
		fields := []wire.Field{{Name: name, Value: one}, {Name: []byte("other"), Value: one}, {Name: name, Value: two}}
		noted := vary(names, fields)
		for i := range noted {
			if !noted[i].fits(fields) {
				t.Fatalf("%q does not fit what it was made of: %q", noted[i], fields)
			}
		}
		joined := []wire.Field{{Name: name, Value: []byte(string(one) + ", " + string(two))}}
		if !noted[0].fits(joined) {
			t.Fatalf("%q does not fit the joined %q", noted[0], joined)
		}
	})
}

func FuzzMatches(f *testing.F) {
	f.Add([]byte(`W/"a", "b"`), []byte(`"b"`))
	f.Fuzz(func(t *testing.T, list, tag []byte) {
		if matches(list, nil) && !strings.Contains(string(list), "*") {
			t.Fatalf("%q matches nothing", list)
		}
		matches(list, tag)
	})
}
