package proxy

import "golang.org/x/net/http2/hpack"

// huffmanStep is what four bits do in one state of the Huffman decoder: where to go, and the symbol that is finished.
// No code is shorter than five bits, so there is at most one.
type huffmanStep struct {
	next uint8
	sym  uint8
	does uint8 // huffmanEmit, huffmanFail
}

const (
	huffmanEmit = 1 << iota
	huffmanFail
)

// huffmanTable is the decoder of RFC 7541 appendix B: one state for each inner node of the code's tree, 16 KiB in all.
// huffmanEnd tells in which states a string may end: after less than eight bits, all ones.
var huffmanTable, huffmanEnd = buildHuffman()

// buildHuffman makes the tables from the codes themselves.
func buildHuffman() (steps [256][16]huffmanStep, end [256]bool) {
	const leaf = 1 << 16
	tree := make([][2]int, 1, 256)
	insert := func(code uint32, bits int, sym int) {
		node := 0
		for i := bits - 1; i > 0; i-- {
			b := code >> i & 1
			if tree[node][b] == 0 {
				tree = append(tree, [2]int{})
				tree[node][b] = len(tree) - 1
			}
			node = tree[node][b]
		}
		tree[node][code&1] = leaf | sym
	}
	for sym := range 256 {
		one := string([]byte{byte(sym)})
		bits := int(hpack.HuffmanEncodeLength(one + one + one + one + one + one + one + one))
		var code uint32
		enc := append(hpack.AppendHuffmanString(nil, one), 0, 0, 0)
		for _, b := range enc[:4] {
			code = code<<8 | uint32(b)
		}
		insert(code>>(32-bits), bits, sym)
	}
	insert(1<<30-1, 30, 256) // EOS
	node := 0
	for range 8 {
		end[node] = true
		node = tree[node][1]
	}
	for n := range tree {
		for nibble := range 16 {
			steps[n][nibble] = huffmanWalk(tree, n, nibble)
		}
	}
	return steps, end
}

// huffmanWalk takes four bits from node n of the tree.
func huffmanWalk(tree [][2]int, n, nibble int) (s huffmanStep) {
	const leaf = 1 << 16
	for i := 3; i >= 0; i-- {
		n = tree[n][nibble>>i&1]
		if n&leaf == 0 {
			continue
		}
		if n&^leaf == 256 {
			return huffmanStep{does: huffmanFail}
		}
		s.sym, s.does = uint8(n&^leaf), huffmanEmit
		n = 0
	}
	s.next = uint8(n)
	return s
}

// appendHuffman decodes p to the end of dst. It reports false for codes that RFC 7541 §5.2 forbids.
func appendHuffman(dst, p []byte) ([]byte, bool) {
	var state uint8
	for _, b := range p {
		s := &huffmanTable[state][b>>4]
		if s.does != 0 {
			if s.does == huffmanFail {
				return dst, false
			}
			dst = append(dst, s.sym)
		}
		s = &huffmanTable[s.next][b&15]
		if s.does != 0 {
			if s.does == huffmanFail {
				return dst, false
			}
			dst = append(dst, s.sym)
		}
		state = s.next
	}
	return dst, huffmanEnd[state]
}
