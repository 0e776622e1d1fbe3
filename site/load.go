package site

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
)

// Check looks for mistakes that only another package can see. It is called for a site without others in what it looks at, and tells them by the paths of
// their fields.
type Check func(s *Site, wrong func(path, text string))

// Load reads a site file with everything it includes. The error is a *Mistakes that holds all mistakes at once, with those that more finds.
func Load(path string, more ...Check) (*Site, error) { return load(path, realDisk(), more...) }

// Parse is Load for a text that was read already. Relative paths start from the folder of name, which need not exist
// otherwise and is what mistakes are reported under.
func Parse(name string, data []byte) (*Site, error) { return parse(name, data, realDisk()) }

func load(path string, d disk, more ...Check) (*Site, error) {
	if _, folder, _ := d.list(path); folder {
		return nil, alone(path, "it is a folder; name a file, for example one that says include: ["+path+"]")
	}
	data, err := d.read(path, maxFileBytes)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, alone(path, "there is no such file")
	} else if err != nil {
		return nil, alone(path, "cannot be read: "+err.Error())
	}
	return parse(path, data, d, more...)
}

// alone is a mistake about a file as a whole.
func alone(file, text string) *Mistakes { return &Mistakes{List: []Mistake{{File: file, Text: text}}} }

func parse(name string, data []byte, d disk, more ...Check) (*Site, error) {
	l := &loader{disk: d, included: map[string]place{}}
	dir, err := filepath.Abs(filepath.Dir(name))
	if err != nil {
		return nil, alone(name, "the working folder cannot be found: "+err.Error())
	}
	tree := l.tree(&source{name: name, dir: dir}, filepath.Join(dir, filepath.Base(name)), data)
	s := new(Site)
	dec := &decoder{loader: l, places: map[string]place{"": {l.sources[0], 1, 1}}, bad: map[string]bool{}, badInside: map[string]bool{}}
	setDefaults(reflect.ValueOf(s).Elem())
	if tree != nil {
		dec.structure(tree, reflect.ValueOf(s).Elem(), "")
	}
	finish(s, func(path string) bool { _, ok := dec.places[path]; return ok })
	if !l.broken { // with half of the text unread, every name would seem to be missing
		c := &checker{decoder: dec, site: s}
		c.all()
		for _, check := range more {
			check(s, func(path, text string) {
				if !c.suspect(path) {
					c.wrong(path, "%s", text)
				}
			})
		}
	}
	if len(l.mistakes.List) > 0 {
		l.mistakes.sort()
		return nil, &l.mistakes
	}
	s.Files = l.files
	return s, nil
}

// loader collects the texts of one load, and what is wrong with them.
type loader struct {
	disk
	sources  []*source
	files    []string         // everything read, absolute
	included map[string]place // absolute path of a file to where it was included
	mistakes Mistakes
	broken   bool // some text could not be read, so that names may be missing
}

func (l *loader) report(at place, path, text string) {
	l.mistakes.add(Mistake{File: at.src.name, Line: at.line, Column: at.column, Path: path, Text: text, order: at.src.order})
}

// watch notes a file that the site depends on.
func (l *loader) watch(path string) { l.files = append(l.files, path) }

// finish fills what hangs on other fields: names, and defaults that no tag can say. given says whether the file has a path.
func finish(s *Site, given func(path string) bool) {
	var probeless []*Pool // the file says nothing of probes
	for name, l := range s.Listeners {
		l.Name = name
		if l.Limits.ConnectionsPerIP == 0 {
			l.Limits.ConnectionsPerIP = max(1, l.Limits.Connections/2)
		}
	}
	for name, p := range s.Pools {
		p.Name = name
		if !given("pools." + name + ".connections.idle") {
			p.Connections.Idle = min(p.Connections.Idle, p.Connections.Max)
		}
		if p.Probe == nil {
			p.Probe = new(Probe)
			setDefaults(reflect.ValueOf(p.Probe).Elem())
			probeless = append(probeless, p)
		}
		if p.Probe.kinds() == 0 {
			p.Probe.TCP = &ProbeTCP{}
		}
	}
	for name, one := range s.Switches {
		one.Name = name
	}
	if len(s.Routes) == 0 && len(s.Pools) == 1 {
		for name := range s.Pools {
			r := &Route{}
			setDefaults(reflect.ValueOf(r).Elem())
			r.Name, r.Pool = "default", name
			s.Routes = []*Route{r}
		}
	}
	for i, r := range s.Routes {
		if r.Name == "" {
			r.Name = fmt.Sprintf("route-%d", i+1)
		}
	}
	for _, l := range s.Listeners {
		l.Sniff = l.Protocol == ProtocolTCP && l.TLS == nil && s.anyRoute(l, func(r *Route) bool { return len(r.Hosts) > 0 })
	}
	for _, p := range probeless {
		p.Probe.Off = s.onlyUDP(p)
	}
	for _, o := range s.Objectives {
		o.settle()
	}
}

// anyRoute reports whether one of the routes that l may take is of a kind.
func (s *Site) anyRoute(l *Listener, is func(*Route) bool) bool {
	for _, r := range s.Routes {
		if r.Takes(l) && is(r) {
			return true
		}
	}
	return false
}

// onlyUDP reports whether udp listeners, and no others, lead to p.
func (s *Site) onlyUDP(p *Pool) bool {
	leads := func(r *Route) bool { return r.Pool == p.Name }
	udp := false
	for _, l := range s.Listeners {
		switch {
		case !s.anyRoute(l, leads):
		case l.Protocol != ProtocolUDP:
			return false
		default:
			udp = true
		}
	}
	return udp
}

func (p *Probe) kinds() int {
	n := 0
	for _, set := range []bool{p.HTTP != nil, p.TCP != nil, p.TLS != nil, p.GRPC != nil, p.Exec != nil} {
		if set {
			n++
		}
	}
	return n
}

// secret reads file:PATH, or puts variables into a text.
func (l *loader) secret(n *node, text string) (string, error) {
	path, isFile := strings.CutPrefix(text, "file:")
	if !isFile {
		return expand(text, l.env)
	}
	path, err := expand(path, l.env)
	if err != nil {
		return "", err
	}
	full := absolute(path, n.at.src.dir)
	l.watch(full)
	data, err := l.read(full, maxText)
	if errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("there is no file %s", full)
	} else if err != nil {
		return "", fmt.Errorf("the file %s cannot be read: %w", full, err)
	}
	return strings.TrimSpace(string(data)), nil
}
