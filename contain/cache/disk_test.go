package cache

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/even-keel/evenkeel/site"
	"github.com/even-keel/evenkeel/wire"
)

// shelf is a stand whose cache has files.
type shelf struct {
	*stand
	dir    string
	print  uint64
	mu     sync.Mutex
	events []string // guarded by mu
	stop   func()
}

func newShelf(t testing.TB) *shelf {
	s := &shelf{stand: newStand(t), dir: filepath.Join(t.TempDir(), "cache"), print: 1}
	s.stop = func() {}
	s.start()
	t.Cleanup(func() { s.stop() })
	return s
}

func (s *shelf) tell(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.events = append(s.events, text)
}

// told is what people were told so far.
func (s *shelf) told() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.events)
}

// start starts a cache anew, as after a restart.
func (s *shelf) start() {
	s.stop()
	deps := s.c.deps
	deps.Now, deps.Event = time.Now, s.tell
	s.c = New(site.Cache{Memory: 1 << 24, Waiting: 100, Refreshes: 4, Disk: &site.CacheDisk{Path: s.dir, Size: 16 << 20}}, deps)
	s.rules()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = s.c.Run(ctx) }()
	s.stop = func() { cancel(); <-done }
	synctest.Wait()
}

func (s *shelf) rules() {
	s.stage = s.c.Stage([]*Policy{{RouteCache: s.policy, Route: "all", Print: s.print}, nil})
}

// want plays a line and looks for what the client gets.
func (s *shelf) want(line, want string) {
	s.t.Helper()
	got := strings.Join(s.do(line), "; ")
	synctest.Wait()
	if !strings.Contains(got, want) {
		s.t.Errorf("%s: %s, want %s", line, got, want)
	}
}

func (s *shelf) files() []string {
	names, _ := filepath.Glob(filepath.Join(s.dir, "*"+markAnswer))
	return names
}

func shelved(t *testing.T, do func(t *testing.T, s *shelf)) {
	synctest.Test(t, func(t *testing.T) { do(t, newShelf(t)) })
}

const kept = `endpoint 200 body=hello | Cache-Control: max-age=60 | ETag: "1" | Vary: Accept-Language | Content-Type: text/plain`

func TestDiskOutlivesARestart(t *testing.T) {
	shelved(t, func(t *testing.T, s *shelf) {
		s.do(kept)
		s.want("GET /x | Accept-Language: de", "fwd=uri-miss; stored")
		s.want("GET /x | Accept-Language: de", "hit; ttl")
		<-time.After(10 * time.Second)
		s.start()
		s.want("GET /x | Accept-Language: de", `200 "hello" | Age: 10 | Content-Type: text/plain | Cache-Status: evenkeel; hit; detail=disk; ttl=50`)
		s.want("GET /x | Accept-Language: de", `Cache-Status: evenkeel; hit; ttl=50`)
		s.want("GET /x | Accept-Language: fr", "fwd=")
		s.want(`GET /x | Accept-Language: de | If-None-Match: "1"`, "304")
		<-time.After(time.Minute)
		s.start()
		s.want("GET /x | Accept-Language: de", `asked GET | If-None-Match: "1"`) // stale, and worth a question
		if st := s.c.Status().Disk; st.Hits == 0 || st.Entries != 2 || len(s.told()) > 0 {
			t.Errorf("%+v %v", st, s.told())
		}
	})
}

// A file that is not what was written is never served, and goes. What is no file of the cache is left alone.
func TestDiskDamage(t *testing.T) {
	shelved(t, func(t *testing.T, s *shelf) {
		s.do(kept)
		s.want("GET /x", "stored")
		s.stop()
		name := s.files()[0]
		whole, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		foreign := filepath.Join(s.dir, "letter.txt")
		if err := os.WriteFile(foreign, whole, 0o600); err != nil {
			t.Fatal(err)
		}
		for i := range len(whole) + 1 {
			bad := whole[:i:i]
			if i%2 == 0 && i < len(whole) {
				bad = bytes.Clone(whole)
				bad[i] ^= 4
			}
			if i == len(whole) {
				bad = append(bad, 'x')
			}
			for _, old := range s.files() {
				_ = os.Remove(old)
			}
			if err := errors.Join(os.WriteFile(name, bad, 0o600), os.WriteFile(name+markUnwhole, whole, 0o600)); err != nil {
				t.Fatal(err)
			}
			s.start()
			s.want("GET /x", "stored")
			s.stop()
			if left, _ := os.ReadFile(name); bytes.Equal(left, bad) || s.c.Status().Disk.Damaged != 1 {
				t.Fatalf("damaged at byte %d of %d: %+v", i, len(whole), s.c.Status().Disk)
			}
		}
		if _, err := os.Stat(foreign); err != nil {
			t.Error(err)
		}
		if left, _ := filepath.Glob(filepath.Join(s.dir, "*"+markUnwhole)); len(left) > 0 {
			t.Errorf("left: %v", left)
		}
	})
}

func TestDiskForgets(t *testing.T) {
	for name, forget := range map[string]func(s *shelf){
		"a change":    func(s *shelf) { s.do("POST /x") },
		"a purge":     func(s *shelf) { s.c.Purge("all", "http://shop.example/") },
		"other rules": func(s *shelf) { s.print = 2; s.start() },
		"a stale answer": func(s *shelf) {
			s.do(`endpoint 200 body=new | Cache-Control: private`)
			<-time.After(2 * time.Minute)
			s.do("GET /x")
		},
	} {
		t.Run(name, func(t *testing.T) {
			shelved(t, func(t *testing.T, s *shelf) {
				s.do(kept)
				s.want("GET /x", "stored")
				if len(s.files()) != 1 {
					t.Fatal(s.files())
				}
				forget(s)
				synctest.Wait()
				s.want("GET /x", "fwd=uri-miss")
				s.start()
				if strings.Contains(strings.Join(s.do("GET /x"), ""), "hello; detail=disk") {
					t.Error("it is back")
				}
			})
		})
	}
}

// What is forgotten while the folder is read does not come back.
func TestDiskForgetsBeforeItIsRead(t *testing.T) {
	shelved(t, func(t *testing.T, s *shelf) {
		s.do(kept)
		s.want("GET /x", "stored")
		s.want("GET /y", "stored")
		s.stop()
		d := newDisk(&site.CacheDisk{Path: s.dir, Size: 16 << 20}, newStore(1<<20), time.Now, func(string) {})
		d.forget([]byte("http://shop.example/x"))
		d.scan(t.Context())
		d.bury()
		if d.index.entries.Load() != 1 || len(s.files()) != 1 {
			t.Errorf("%d entries, files %v", d.index.entries.Load(), s.files())
		}
		for range earlyMost + 5 {
			d.ready.Store(false)
			d.forget([]byte("http://shop.example/z"))
		}
		if d.scan(t.Context()); d.index.entries.Load() != 0 {
			t.Error("more was forgotten than is remembered, and something is kept")
		}
	})
}

func TestDiskKeepsNothingPrivate(t *testing.T) {
	shelved(t, func(t *testing.T, s *shelf) {
		for i, control := range []string{"private, max-age=60", "no-store", "max-age=60, must-understand, no-store", "max-age=3"} {
			s.do("endpoint 200 body=x | Cache-Control: " + control)
			s.do(fmt.Sprint("GET /", i))
		}
		s.do(kept)
		s.do("GET /" + strings.Repeat("long", 100))
		s.do("GET /a | Cache-Control: no-store")
		s.do("GET /b | Authorization: secret")
		synctest.Wait()
		if len(s.files()) > 0 {
			t.Error(s.files())
		}
	})
}

func TestDiskKeepsItsBound(t *testing.T) {
	shelved(t, func(t *testing.T, s *shelf) {
		s.do("endpoint 200 body=" + strings.Repeat("x", 900<<10) + " | Cache-Control: max-age=600")
		for i := range 60 {
			s.want(fmt.Sprint("GET /", i), "stored")
		}
		sum := int64(0)
		for _, name := range s.files() {
			st, err := os.Stat(name)
			if err != nil {
				t.Fatal(err)
			}
			sum += st.Size()
		}
		if st := s.c.Status().Disk; sum > 16<<20 || sum < 12<<20 || st.Evicted == 0 || st.Bytes < sum || st.Bytes > 16<<20 || st.Entries != int64(len(s.files())) {
			t.Errorf("%d bytes in %d files: %+v", sum, len(s.files()), st)
		}
	})
}

// A folder that cannot be written leaves memory, is told of once, and is used again when it can be.
func TestDiskThatCannotBeWritten(t *testing.T) {
	shelved(t, func(t *testing.T, s *shelf) {
		if err := os.RemoveAll(s.dir); err != nil {
			t.Fatal(err)
		}
		s.do(kept)
		for _, path := range []string{"/1", "/2"} {
			s.want("GET "+path, "stored")
			s.want("GET "+path, "hit; ttl")
		}
		if st := s.c.Status().Disk; st.Failed != 1 || st.Unwritten != 1 || !st.Down || len(s.told()) != 1 || !strings.Contains(s.told()[0], "memory only") {
			t.Errorf("%+v %q", st, s.told())
		}
		if err := os.MkdirAll(s.dir, 0o700); err != nil {
			t.Fatal(err)
		}
		<-time.After(diskAgain)
		s.want("GET /3", "stored")
		if st := s.c.Status().Disk; st.Down || st.Entries != 1 || len(s.told()) != 2 {
			t.Errorf("%+v %q", st, s.told())
		}
	})
}

// Who waits for a disk that does not answer waits a moment.
func TestDiskThatHangs(t *testing.T) {
	shelved(t, func(t *testing.T, s *shelf) {
		s.do(kept)
		s.want("GET /x", "stored")
		s.start()
		s.stop() // nobody reads
		began := time.Now()
		s.want("GET /x", "stored")
		if took := time.Since(began); took != diskWait || s.c.Status().Disk.Late != 1 {
			t.Errorf("it took %s: %+v", took, s.c.Status().Disk)
		}
	})
}

func FuzzDecode(f *testing.F) {
	o := thing("http://a/", 10, time.Unix(1e9, 0))
	o.vary, o.print = []varied{{"accept", "text"}}, 7
	o.fields = []wire.Field{{Name: []byte("ETag"), Value: []byte(`"1"`)}, {Name: []byte("X-A"), Value: nil}}
	f.Add(encode(o))
	f.Fuzz(func(t *testing.T, b []byte) {
		// The checksums are made to fit, or nothing behind them would ever be reached.
		if fr, err := readFrame(b); err == nil && int64(len(b)) == fr.size() {
			head := b[frameSize : frameSize+int(fr.head)]
			b = bytes.Clone(b)
			for i, n := range []uint32{checksum(head), checksum(b[frameSize+len(head):])} {
				for k := range 4 {
					b[len(fileMark)+8+4*i+k] = byte(n >> (8 * k))
				}
			}
		}
		got, err := decode(b)
		if err != nil {
			return
		}
		again, err := decode(encode(got))
		if err != nil || again.key != got.key || len(again.fields) != len(got.fields) || !bytes.Equal(again.body, got.body) || again.print != got.print {
			t.Fatalf("%v: %+v is %+v", err, got, again)
		}
	})
}

// A folder that another process has is waited for, and told of only when that lasts longer than an upgrade.
func TestDiskOfAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShelf(t)
		first := s.stop
		s.stop = func() {}
		s.start()
		second := s.stop
		s.stop = func() { first(); second() }
		<-time.After((diskUpgrade - 1) * time.Second)
		if len(s.told()) > 0 {
			t.Error(s.told())
		}
		<-time.After(2 * time.Second)
		if len(s.told()) != 1 || !strings.Contains(s.told()[0], "another process has it") {
			t.Error(s.told())
		}
		first()
		<-time.After(2 * time.Second)
		s.do(kept)
		s.want("GET /x", "stored")
		if len(s.files()) != 1 {
			t.Error("the folder is not used when it is free")
		}
	})
}
