package site

import (
	"context"
	"io/fs"
	"os"
	"time"
)

// Watch calls changed when one of the files has changed and has then been quiet for one interval, so that half-written files
// are not read. It looks every interval (zero or less: once a second) at modification time, size and identity, and
// follows symbolic links, as config maps are swapped by them. files is asked anew each time, because a reload may name other
// files, and says what each looked like when it was read; nil: as when Watch sees it first, so that what changes in between is
// missed. A file that is missing and one that appears are changes too. Watch returns when ctx ends; changed is never called
// twice at a time.
func Watch(ctx context.Context, files func() map[string]fs.FileInfo, every time.Duration, changed func()) {
	if every <= 0 {
		every = time.Second
	}
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	known := sight{} // what the last call of changed, or the start, saw
	last, pending := known.learn(files()), false
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		now := known.learn(files())
		quiet := now.same(last)
		last = now
		switch {
		case !now.same(known):
			pending, known = true, now
		case pending && quiet:
			pending = false
			changed()
			// Files that the reload brought in are known from here on, but a change to the others while it ran is not.
			known.learn(files())
		case !pending:
			known = now // the same, and what files names newly
		}
	}
}

// sight is what the files looked like at one time; nil stands for a file that is not there.
type sight map[string]fs.FileInfo

// learn looks at files, and takes those that s does not know into it: as they were when they were read, where that is known.
func (s sight) learn(files map[string]fs.FileInfo) (now sight) {
	now = make(sight, len(files))
	for path, read := range files {
		info, err := os.Stat(path)
		if err != nil {
			info = nil
		}
		now[path] = info
		if read == nil {
			read = info
		}
		if _, old := s[path]; !old {
			s[path] = read
		}
	}
	return now
}

// same compares the files that both have seen.
func (s sight) same(old sight) bool {
	for path, now := range s {
		then, known := old[path]
		if !known {
			continue
		}
		if (now == nil) != (then == nil) {
			return false
		}
		if now != nil && (now.Size() != then.Size() || !now.ModTime().Equal(then.ModTime()) || !os.SameFile(now, then)) {
			return false
		}
	}
	return true
}
