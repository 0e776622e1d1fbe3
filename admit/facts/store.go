package facts

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/even-keel/evenkeel/site"
)

// How the store looks after what it keeps.
const (
	watchEvery = 2 * time.Second // how often files are looked at
	awaitKeys  = 3 * time.Second // how long a start or a reload waits for the first fetch of a key set
)

// Store keeps what finders read from elsewhere: key sets, what is known of tokens, databases of regions. It outlives reloads of
// the site. Its methods may be called by any goroutine, Run once.
type Store struct {
	log     *slog.Logger
	client  *http.Client
	checks  *checks
	changed chan struct{} // there may be other key sets to fetch

	mu        sync.Mutex
	sets      map[string]*keySet // by URL or path
	verifiers map[site.JWT]*verifier
	databases map[string]*database
	seen      map[string]os.FileInfo // files as they were read last
}

// NewStore makes a store that keeps nothing yet. log nil: slog.Default().
func NewStore(log *slog.Logger) *Store {
	if log == nil {
		log = slog.Default()
	}
	return &Store{log: log, client: newClient(), checks: newChecks(), changed: make(chan struct{}, 1),
		sets: map[string]*keySet{}, verifiers: map[site.JWT]*verifier{}, databases: map[string]*database{},
		seen: map[string]os.FileInfo{}}
}

// Finder makes a finder of what the site says. It reads the files that are named, and starts to fetch key sets of URLs while Run
// runs. When the site is not put in force after all, call Use with the finder that is.
func (s *Store) Finder(cfg *site.Identify) (*Finder, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := &Finder{customers: customersOf(cfg.Customers), class: newClasses(&cfg.Class)}
	var err error
	if f.customer, f.sure, err = s.source(f, cfg.Customer); err != nil {
		return nil, fmt.Errorf("identify.customer: %w", err)
	}
	if f.user, _, err = s.source(f, cfg.User); err != nil {
		return nil, fmt.Errorf("identify.user: %w", err)
	}
	if f.region, err = s.regions(f, cfg.Region); err != nil {
		return nil, err
	}
	f.empty = f.customer == nil && f.user == nil && f.region == nil && f.class.header.text == ""
	s.wake()
	return f, nil
}

// source makes one source ready. sure: to write its value one has to know a secret or to hold a key; a part of the path
// and the user name of basic authorization, whose password evenkeel does not check, are no secrets.
func (s *Store) source(f *Finder, cfg *site.Source) (from source, sure bool, err error) {
	switch {
	case cfg == nil:
		return nil, false, nil
	case cfg.Header != "":
		return &inHeader{newFieldName(cfg.Header)}, true, nil
	case cfg.Cookie != "":
		return &inCookie{cfg.Cookie}, true, nil
	case cfg.Query != "":
		return &inQuery{cfg.Query}, true, nil
	case cfg.Path > 0:
		return inPath(cfg.Path), false, nil
	case cfg.MTLS != "":
		return inCertificate(cfg.MTLS), true, nil
	case cfg.Basic:
		return inBasic{}, false, nil
	case cfg.JWT == nil:
		return nil, false, nil
	}
	v, err := s.verifier(f, cfg.JWT)
	if err != nil {
		return nil, false, fmt.Errorf("jwt: %w", err)
	}
	return newInToken(cfg.JWT, v), true, nil
}

// verifier finds or makes what checks the tokens of a source.
func (s *Store) verifier(f *Finder, cfg *site.JWT) (*verifier, error) {
	v := s.verifiers[*cfg]
	if v == nil {
		set, err := s.keys(cfg)
		if err != nil {
			return nil, err
		}
		v = newVerifier(cfg, set, s.checks)
		s.verifiers[*cfg] = v
	}
	f.uses = append(f.uses, v, v.set)
	return v, nil
}

// keys finds or makes the key set of a source.
func (s *Store) keys(cfg *site.JWT) (*keySet, error) {
	if cfg.Secret != "" {
		k, err := newSigner("", "", []byte(cfg.Secret))
		if err != nil {
			return nil, err
		}
		set := newKeySet("the site file")
		set.use([]*signer{k}, nil, time.Now(), s.log)
		return set, nil
	}
	where := cfg.Key
	if where == "" {
		where = cfg.JWKS
	}
	set := s.sets[where]
	if set == nil {
		set = newKeySet(where)
		if !set.remote() {
			info, err := set.load(s.log)
			if err != nil {
				return nil, err
			}
			s.seen[where] = info
		}
		s.sets[where] = set
	}
	set.refresh.Store(int64(max(cfg.Refresh, time.Second)))
	return set, nil
}

// remote says whether the keys come from a URL.
func (s *keySet) remote() bool { return strings.Contains(s.where, "://") }

// load reads the keys from their file.
func (s *keySet) load(log *slog.Logger) (os.FileInfo, error) {
	text, info, err := readFile(s.where, maxKeyBytes)
	if err != nil {
		return nil, err
	}
	keys, err := parseKeys(text)
	if err != nil {
		err = fmt.Errorf("%s gives no keys: %w", s.where, err)
	}
	s.use(keys, err, time.Now(), log)
	return info, err
}

// regions makes the source of regions ready.
func (s *Store) regions(f *Finder, cfg *site.Region) (*regions, error) {
	if cfg == nil {
		return nil, nil
	}
	r := &regions{}
	if cfg.Header != "" {
		r.header = newFieldName(cfg.Header)
	}
	var err error
	if r.table, err = newRanges(cfg.Prefixes); err != nil || cfg.MMDB == "" {
		return r, err
	}
	if r.db = s.databases[cfg.MMDB]; r.db == nil {
		r.db = &database{path: cfg.MMDB}
		info, err := r.db.load()
		if err != nil {
			return nil, fmt.Errorf("identify.region.mmdb: %w", err)
		}
		s.databases[cfg.MMDB], s.seen[cfg.MMDB] = r.db, info
	}
	f.uses = append(f.uses, r.db)
	return r, nil
}

// Use says that f is in force: what the store keeps for others is given up.
func (s *Store) Use(f *Finder) {
	s.mu.Lock()
	defer s.mu.Unlock()
	keepUsed(s.verifiers, f)
	keepUsed(s.sets, f)
	keepUsed(s.databases, f)
	for path := range s.seen {
		if s.sets[path] == nil && s.databases[path] == nil {
			delete(s.seen, path)
		}
	}
	s.wake()
}

// keepUsed takes out of m what f does not need.
func keepUsed[K comparable, V any](m map[K]*V, f *Finder) {
	for k, v := range m {
		if !slices.Contains(f.uses, any(v)) {
			delete(m, k)
		}
	}
}

func (s *Store) wake() {
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

// Await waits until the key sets that f needs were fetched once, well or not, at the most for some seconds. Run must be running.
func (s *Store) Await(ctx context.Context, f *Finder) {
	ctx, cancel := context.WithTimeout(ctx, awaitKeys)
	defer cancel()
	for _, u := range f.uses {
		set, is := u.(*keySet)
		if !is {
			continue
		}
		select {
		case <-set.tried:
		case <-ctx.Done():
			s.log.Warn("serving without the keys of tokens", slog.String("from", set.where))
			return
		}
	}
}

// Run keeps what finders read fresh until ctx ends.
func (s *Store) Run(ctx context.Context) error {
	var work sync.WaitGroup
	defer work.Wait()
	defer s.client.CloseIdleConnections()
	work.Go(func() { site.Watch(ctx, s.files, watchEvery, s.reread) })
	running := map[*keySet]context.CancelFunc{}
	for {
		s.mu.Lock()
		for _, set := range s.sets {
			if running[set] == nil && set.remote() {
				own, cancel := context.WithCancel(ctx)
				running[set] = cancel
				work.Go(func() { set.keep(own, s.client, s.log) })
			}
		}
		for set, cancel := range running {
			if s.sets[set.where] != set {
				cancel()
				delete(running, set)
			}
		}
		s.mu.Unlock()
		select {
		case <-s.changed:
		case <-ctx.Done():
			for _, cancel := range running {
				cancel()
			}
			return nil
		}
	}
}

// files are the files to look at, as they were when they were read.
func (s *Store) files() map[string]os.FileInfo {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.seen)
}

// reread reads files again that have changed. A bad one leaves the old state in use and is told.
func (s *Store) reread() {
	for path, old := range s.files() {
		s.mu.Lock()
		set, db := s.sets[path], s.databases[path]
		s.mu.Unlock()
		now, err := os.Stat(path)
		if err == nil && old != nil && now.Size() == old.Size() && now.ModTime().Equal(old.ModTime()) && os.SameFile(now, old) {
			continue
		}
		switch {
		case err != nil:
		case set != nil:
			now, err = set.load(s.log)
		case db != nil:
			if now, err = db.load(); err == nil {
				s.log.Info("a database of regions is new", slog.String("file", path))
			}
		}
		if err != nil {
			s.log.Warn("a new file is not used, the old state stays", slog.String("file", path), slog.Any("error", err))
		}
		s.mu.Lock()
		if s.databases[path] == db && s.sets[path] == set {
			s.seen[path] = now
		}
		s.mu.Unlock()
	}
}
