// Package manual knows the rows in which the manual runner keeps its positions, which ranges of slots they are for, and where each slot stands when
// the number of partitions changes. The processor runs by it, and package admin imports by it.
package manual
