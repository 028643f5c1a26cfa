# Hashes, arrays, strings, patterns and closures. Usage: churn.pl ROUNDS. Prints digests.
use strict;
use warnings;
use Digest::MD5 qw(md5_hex);
use List::Util qw(sum0 reduce);

my $state = 12345;
sub draw { $state = ($state * 1103515245 + 12345) % 2147483648; return int($state / 65536) % $_[0]; }
sub word { return join '', map { chr(97 + draw(26)) } 1 .. 2 + draw(10); }

sub one_round {
  my ($round) = @_;
  my @words = map { word() } 1 .. 5000;
  my (%index, %count);
  for my $place (0 .. $#words) {
    push @{ $index{ substr $words[$place], 0, 2 } }, { word => $words[$place], place => $place };
    $count{$_}++ for split //, $words[$place];
  }
  my $page = join ' ', @words;
  $page =~ s/\b(\w)(\w*)(\w)\b/$3$2$1/g;
  (my $vowels = $page) =~ tr/aeiou//cd;
  my @order = sort { $index{$a}[0]{place} <=> $index{$b}[0]{place} || $a cmp $b } keys %index;
  my $text = '';
  for my $key (@order) {
    my @entries = sort { $a->{word} cmp $b->{word} || $a->{place} <=> $b->{place} } @{ $index{$key} };
    $text .= sprintf "%s:%s;", $key, join ',', map { "$_->{word}\@$_->{place}" } @entries;
  }
  my @closures = map { my $n = $_; sub { $n += $_[0]; return $n } } 1 .. 2000;
  my $sum = sum0(map { $closures[$_]->($_) } 0 .. $#closures);
  my $list;
  $list = [ $_, $list ] for 1 .. 3000;
  my $length = 0;
  while ($list) { $length += $list->[0]; $list = $list->[1]; }
  my %copy = map { $_ => [ map { { %$_ } } @{ $index{$_} } ] } keys %index;
  my $entries = sum0(map { scalar @{ $copy{$_} } } keys %copy);
  my $longest = reduce { length($a) >= length($b) ? $a : $b } @words;
  return md5_hex(join '|', $round, $text, $page, $vowels, $sum, $length, $entries, $longest,
                 map { "$_=$count{$_}" } sort keys %count);
}

print one_round($_), "\n" for 1 .. $ARGV[0];
