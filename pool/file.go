package pool

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	"github.com/even-keel/evenkeel/site"
	"go.yaml.in/yaml/v3"
)

const (
	// fileEvery is how often the file is looked at. A stat costs 2 µs; watching by inotify misses network file systems and
	// the renamed links by which Kubernetes updates files.
	fileEvery = 2 * time.Second
	// fileMax is the size of a file: 10,000 endpoints with long labels stay below a tenth of it.
	fileMax = 16 << 20
	// settled is the age of a file from which its time says whether it changed: some file systems count in seconds.
	settled = 3 * time.Second
)

// fileSource finds endpoints in a file in the shape of Prometheus file_sd.
type fileSource struct {
	path string
	seen os.FileInfo // nil: read it again
	sum  [sha256.Size]byte
	last found
	err  error
}

// find implements source.
func (s *fileSource) find(context.Context) (found, error) {
	again := found{set: s.last.set, again: fileEvery, same: true}
	info, err := os.Stat(s.path)
	if err != nil {
		s.seen, s.sum = nil, [sha256.Size]byte{}
		return found{again: fileEvery}, fmt.Errorf("cannot read the endpoint file: %w", err)
	}
	if s.seen != nil && os.SameFile(s.seen, info) && s.seen.ModTime().Equal(info.ModTime()) && s.seen.Size() == info.Size() {
		return again, s.err
	}
	s.seen = nil
	if time.Since(info.ModTime()) > settled {
		s.seen = info
	}
	data, err := readFile(s.path)
	if err != nil {
		s.seen = nil
		return found{again: fileEvery}, fmt.Errorf("cannot read the endpoint file: %w", err)
	}
	sum := sha256.Sum256(data)
	if sum == s.sum {
		return again, s.err
	}
	s.sum = sum
	set, err := parseFile(data)
	if err != nil {
		s.err = fmt.Errorf("endpoint file %s: %w", s.path, err)
		return found{again: fileEvery}, s.err
	}
	s.err, s.last = nil, found{set: set, again: fileEvery}
	return s.last, nil
}

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, fileMax+1))
	if err == nil && len(data) > fileMax {
		err = fmt.Errorf("%s has more than %d MiB", path, fileMax>>20)
	}
	return data, err
}

// fileGroup is one element of the list. Labels that evenkeel does not know are left alone: the same file may
// feed Prometheus.
type fileGroup struct {
	Targets []string       `json:"targets" yaml:"targets"`
	Labels  map[string]any `json:"labels" yaml:"labels"`
}

// parseFile reads the content of an endpoint file, JSON or YAML. The list may be empty; an empty file is a mistake,
// as it is what a writer leaves who did not get far.
func parseFile(data []byte) ([]site.Endpoint, error) {
	groups, err := decodeFile(data)
	if err != nil {
		return nil, err
	}
	set := []site.Endpoint{}
	seen := make(map[string]bool)
	for i, g := range groups {
		like, err := g.endpoint()
		if err != nil {
			return nil, fmt.Errorf("group %d: %w", i+1, err)
		}
		for j, address := range g.Targets {
			if err := checkAddress(address); err != nil {
				return nil, fmt.Errorf("group %d, target %d: %w", i+1, j+1, err)
			}
			if seen[address] {
				return nil, fmt.Errorf("group %d, target %d: address %q stands there twice", i+1, j+1, address)
			}
			seen[address] = true
			like.Address = address
			set = append(set, like)
		}
	}
	return set, nil
}

func decodeFile(data []byte) (groups []fileGroup, err error) {
	body := bytes.TrimSpace(data)
	if len(body) == 0 {
		return nil, errors.New("the file is empty: a list of {targets, labels} is allowed, [] for none")
	}
	if body[0] == '[' && json.Valid(body) {
		d := json.NewDecoder(bytes.NewReader(body))
		d.UseNumber()
		d.DisallowUnknownFields()
		if err := d.Decode(&groups); err != nil {
			return nil, fmt.Errorf("cannot read JSON: %w", err)
		}
		return groups, nil
	}
	d := yaml.NewDecoder(bytes.NewReader(body))
	d.KnownFields(true)
	if err := d.Decode(&groups); err != nil {
		return nil, fmt.Errorf("cannot read JSON or YAML: %w", err)
	}
	if groups == nil {
		return nil, errors.New("the file has no list: a list of {targets, labels} is allowed, [] for none")
	}
	return groups, nil
}

// endpoint is what the labels say of each target of the group.
func (g *fileGroup) endpoint() (e site.Endpoint, err error) {
	e = site.Endpoint{Weight: 1, Priority: 1}
	if v, ok := g.Labels["zone"]; ok {
		e.Zone = fmt.Sprint(v)
	}
	if e.Weight, err = g.number("weight", 1, 0, 65535); err != nil {
		return e, err
	}
	e.Priority, err = g.number("priority", 1, 1, prioritiesMax)
	return e, err
}

// number reads a label; Prometheus has them as strings, people write numbers.
func (g *fileGroup) number(label string, unset, low, high int) (int, error) {
	v, ok := g.Labels[label]
	if !ok {
		return unset, nil
	}
	n, err := strconv.Atoi(fmt.Sprint(v))
	if err != nil || n < low || n > high {
		return 0, fmt.Errorf("label %s is %q: %d to %d is allowed", label, fmt.Sprint(v), low, high)
	}
	return n, nil
}
