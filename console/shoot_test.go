//go:build look

package console

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/even-keel/evenkeel/console/browser"
)

// TestShoot is no check: it takes the pictures of the documents from a running node. Each is NAME=PATH, with /dark and /phone after the name for
// the dark sheet and the width of a phone, and @PIXELS for another height than the page's own. A node that asks who comes is shown EVENKEEL_SHOOT_TOKEN.
//
//	EVENKEEL_SHOOT=http://127.0.0.1:7600 EVENKEEL_SHOTS="overview=/ pool/dark=/pools/demo" EVENKEEL_SHOT_DIR=docs/img go test -tags look -run TestShoot ./console
func TestShoot(t *testing.T) {
	b := browser.Open(t)
	if token := os.Getenv("EVENKEEL_SHOOT_TOKEN"); token != "" {
		b.Go(os.Getenv("EVENKEEL_SHOOT") + "/login")
		b.Eval(`window.left = true; document.getElementById('token').value = '` + token + `'; document.querySelector('form button').click()`)
		b.Until(`window.left === undefined && document.readyState === 'complete'`)
	}
	for _, shot := range strings.Fields(os.Getenv("EVENKEEL_SHOTS")) {
		name, path, _ := strings.Cut(shot, "=")
		path, high, _ := strings.Cut(path, "@")
		name, kind, _ := strings.Cut(name, "/")
		scheme, width, mobile, scale := "light", 1280, false, .75
		switch kind {
		case "dark":
			scheme, name, scale = "dark", name+"-dark", .4
		case "phone":
			width, mobile, name, scale = 390, true, name+"-phone", .65
		}
		b.Call("Emulation.setEmulatedMedia", map[string]any{"features": []any{map[string]any{"name": "prefers-color-scheme", "value": scheme}}})
		b.Call("Emulation.setDeviceMetricsOverride", map[string]any{"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": mobile})
		b.Go(os.Getenv("EVENKEEL_SHOOT") + path)
		b.Until(`!document.querySelector('[data-live]') || Number(document.documentElement.dataset.views) >= 2`) // what is over does not move
		most := 3000
		if high != "" {
			fmt.Sscan(high, &most)
		}
		var tall int
		fmt.Sscan(b.Eval(`document.documentElement.scrollHeight`), &tall)
		r := b.Call("Page.captureScreenshot", map[string]any{"format": "png", "captureBeyondViewport": true, "clip": map[string]any{"x": 0, "y": 0, "width": width, "height": min(tall, most), "scale": scale}})
		raw, err := base64.StdEncoding.DecodeString(r["data"].(string))
		if err != nil {
			t.Fatal(err)
		}
		out := filepath.Join(os.Getenv("EVENKEEL_SHOT_DIR"), name+".png")
		if err := os.WriteFile(out, fewer(t, raw), 0o644); err != nil {
			t.Fatal(err)
		}
		t.Log(out, tall)
	}
}

// fewer writes a picture with its 256 most frequent colours, which is a third of the bytes; the rest goes to what is nearest.
func fewer(t *testing.T, raw []byte) []byte {
	t.Helper()
	img, err := png.Decode(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	count := map[color.RGBA]int{}
	b := img.Bounds()
	at := func(x, y int) color.RGBA {
		c := color.RGBAModel.Convert(img.At(x, y)).(color.RGBA)
		c.R, c.G, c.B = c.R&^3, c.G&^3, c.B&^3
		return c
	}
	for y := b.Min.Y; y < b.Max.Y; y++ {
		for x := b.Min.X; x < b.Max.X; x++ {
			count[at(x, y)]++
		}
	}
	all := make([]color.RGBA, 0, len(count))
	for c := range count {
		all = append(all, c)
	}
	slices.SortFunc(all, func(a, b color.RGBA) int { return count[b] - count[a] })
	palette := make(color.Palette, 0, 256)
	for _, c := range all[:min(len(all), 256)] {
		palette = append(palette, c)
	}
	index := map[color.RGBA]uint8{}
	small := image.NewPaletted(b, palette)
	for y := b.Min.Y; y < b.Max.Y; y++ {
		for x := b.Min.X; x < b.Max.X; x++ {
			c := at(x, y)
			i, known := index[c]
			if !known {
				i = uint8(palette.Index(c))
				index[c] = i
			}
			small.SetColorIndex(x, y, i)
		}
	}
	var out bytes.Buffer
	if err := (&png.Encoder{CompressionLevel: png.BestCompression}).Encode(&out, small); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}
