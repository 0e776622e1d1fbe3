package login

import (
	"cmp"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/even-keel/evenkeel/keep"
	"github.com/even-keel/evenkeel/site"
)

// Names of the cookie of a session. Over TLS the name says that no other host and no page without TLS can have set it.
const (
	plainCookie = "evenkeel_session"
	hostCookie  = "__Host-evenkeel_session"
)

const (
	maxSessions = 1000 // the one that was used least lately ends for one more
	maxName     = 100  // characters of a name: issuers may send anything
)

// Where sessions are kept within their folder.
const (
	sessionsFile = "sessions"
	sessionsKind = "sessions"
)

// Session is somebody who signed in with a browser. It is kept by the hash of its secret: who reads the file cannot enter with it.
type Session struct {
	Key   string    `json:"key"`
	Name  string    `json:"name"`
	Role  string    `json:"role"`
	Via   string    `json:"via"`
	From  string    `json:"from"`
	Bond  string    `json:"bond"` // to what entitles to it
	Begin time.Time `json:"begin"`
	Seen  time.Time `json:"seen"`
	End   time.Time `json:"end"`
}

// ID names a session where others see it.
func (s Session) ID() string { return s.Key[:min(12, len(s.Key))] }

// sessions are those that are open, by key.
type sessions map[string]*Session

// find is the session of a secret; nil: there is none.
func (all sessions) find(secret string, now time.Time) *Session {
	s := all[keyOf(secret)]
	if s == nil || !now.Before(s.End) {
		return nil
	}
	s.Seen = now
	return s
}

func (all sessions) expire(now time.Time) {
	for key, s := range all {
		if !now.Before(s.End) {
			delete(all, key)
		}
	}
}

// keep ends all but those whose bond is among bonds.
func (all sessions) keep(bonds map[string]bool, now time.Time) {
	all.expire(now)
	for key, s := range all {
		if !bonds[s.Bond] {
			delete(all, key)
		}
	}
}

func (all sessions) add(s *Session, now time.Time) {
	all.expire(now)
	if len(all) >= maxSessions {
		oldest := slices.MinFunc(all.list(now), func(a, b Session) int { return a.Seen.Compare(b.Seen) })
		delete(all, oldest.Key)
	}
	all[s.Key] = s
}

func (all sessions) list(now time.Time) []Session {
	all.expire(now)
	list := make([]Session, 0, len(all))
	for _, s := range all {
		list = append(list, *s)
	}
	slices.SortFunc(list, func(a, b Session) int { return cmp.Or(b.Begin.Compare(a.Begin), cmp.Compare(a.Key, b.Key)) })
	return list
}

// random is a secret that nobody guesses.
func random() string {
	b := make([]byte, 32)
	rand.Read(b) // never fails
	return hex.EncodeToString(b)
}

func keyOf(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(sum[:])
}

// cookie carries the secret of a session. Strict: no other site's page sends it, not even with a link. d.mu is held.
func (d *Door) cookie(r *http.Request, secret string, age int) *http.Cookie {
	k := &http.Cookie{Name: plainCookie, Value: secret, Path: "/", MaxAge: age, HttpOnly: true, SameSite: http.SameSiteStrictMode}
	if r.TLS != nil || d.secure {
		k.Name, k.Secure = hostCookie, true
	}
	return k
}

// shown is a name fit to be shown.
func shown(name string) string { return cmp.Or(clean(name, maxName), "somebody") }

// clean is a text from elsewhere, printable and of at most that many characters.
func clean(text string, most int) string {
	text = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.In(r, unicode.Cf) {
			return -1
		}
		return r
	}, strings.ToValidUTF8(text, ""))
	if letters := []rune(text); len(letters) > most {
		text = string(letters[:most])
	}
	return strings.TrimSpace(text)
}

// Local is a path of this console, or "/": whoever makes a link to the form to sign in must not choose another site to go on to.
func Local(path string) string {
	u, err := url.Parse(path)
	if err != nil || u.Scheme != "" || u.Host != "" || u.User != nil || !strings.HasPrefix(path, "/") || strings.HasPrefix(path, "//") || strings.ContainsAny(path, "\\\t\r\n") || len(path) > maxText {
		return "/"
	}
	return path
}

// Keep makes sessions outlive the process in a folder, and takes over those of the process before this. Call it before Use. After an
// error sessions last as long as the process.
func (d *Door) Keep(folder *keep.Folder) error {
	d.saving.Lock()
	defer d.saving.Unlock()
	// A process that still drains may have the folder; it opens no sessions any more, so what is in it can be read.
	body, _, err := folder.Read(sessionsFile, sessionsKind, d.now())
	if err != nil {
		return fmt.Errorf("sessions of the console cannot be read: %w", err)
	}
	d.folder = folder
	var list []*Session
	if body == nil {
		return nil
	}
	if err := json.Unmarshal(body, &list); err != nil {
		return fmt.Errorf("sessions of the console cannot be understood: %w", err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, s := range list[:min(len(list), maxSessions)] {
		if s != nil && len(s.Key) == 2*sha256.Size && (s.Role == site.RoleRead || s.Role == site.RoleOperate) && d.now().Before(s.End) {
			d.sessions[s.Key] = s
		}
	}
	return nil
}

// save writes what has changed. Sessions that cannot be written last as long as the process, which nobody has to be woken for.
func (d *Door) save() {
	d.saving.Lock()
	defer d.saving.Unlock()
	if d.folder == nil {
		return
	}
	if owned, err := d.folder.Own(); err != nil || !owned {
		return
	}
	body, err := json.Marshal(d.Sessions())
	if err == nil {
		_ = d.folder.Write(sessionsFile, sessionsKind, body)
	}
}

// Close writes sessions for the last time and lets go of the folder.
func (d *Door) Close() {
	d.save()
	d.saving.Lock()
	defer d.saving.Unlock()
	if d.folder != nil {
		d.folder.Close()
		d.folder = nil
	}
}
