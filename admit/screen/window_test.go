package screen

import (
	"math/rand/v2"
	"testing"
	"time"
)

// TestWindowOfFewLetsInWhoKeepsToIt: with one in ten seconds, who comes each eleven is never refused, never do two come in within ten, and nobody is told to wait for longer than
// a window, or for too short a time.
func TestWindowOfFewLetsInWhoKeepsToIt(t *testing.T) {
	const length = 10 * time.Second
	random := rand.New(rand.NewPCG(1, 2))
	upTo := func(d time.Duration) time.Duration { return time.Duration(random.Int64N(int64(d))) }
	w := newWindow(length)
	for key := range uint64(2000) {
		at := time.Hour + upTo(length)
		w.add(key, at, 1)
		for range 20 {
			at += length + time.Millisecond + upTo(length/2)
			if over, _ := w.add(key, at, 1); over {
				t.Fatalf("refused at %v who kept to the limit", at)
			}
		}
		early := upTo(length - 1)
		over, wait := w.add(key, at+early, 1)
		if !over {
			t.Fatalf("let in after %v", early)
		}
		if wait > length+length/1000 {
			t.Fatalf("told to wait for %v", wait)
		}
		if _, told := w.look(key, at+early, 1); told > length+length/1000 {
			t.Fatalf("explained as a wait of %v", told)
		}
		if over, _ := w.add(key, at+early+wait+time.Millisecond, 1); over {
			t.Fatalf("refused after the %v that were told", wait)
		}
	}
}

// TestWindowTellsWhenToCome: for any count and stream, a retry at the time that was told passes, and none of the promised waits is longer than two windows.
func TestWindowTellsWhenToCome(t *testing.T) {
	const length = 10 * time.Second
	random := rand.New(rand.NewPCG(1, 2))
	upTo := func(d time.Duration) time.Duration { return time.Duration(random.Int64N(int64(d))) }
	w := newWindow(length)
	for key := range uint64(5000) {
		most := 1 + random.Uint32N(20)
		at := time.Hour
		for range 50 {
			at += upTo(length / 4)
			over, wait := w.add(key, at, most)
			if !over {
				continue
			}
			at += wait + time.Millisecond
			if over, _ := w.add(key, at, most); over || wait > 2*length {
				t.Fatalf("with %d refused %t after the %v that were told", most, over, wait)
			}
		}
	}
}
