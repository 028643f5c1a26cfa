-- Trees, strings, tables, closures and coroutines. Usage: churn.lua ROUNDS. Prints checksums.
local state = 12345
local function draw(limit)
  state = (state * 1103515245 + 12345) % 2147483648
  return (state // 65536) % limit
end

local function tree(depth)
  if depth == 0 then return { key = draw(1000) } end
  return { key = draw(1000), left = tree(depth - 1), right = tree(depth - 1) }
end

local function total(node)
  if not node then return 0 end
  return node.key + total(node.left) + total(node.right)
end

local function word()
  local letters = {}
  for i = 1, 2 + draw(10) do letters[i] = string.char(97 + draw(26)) end
  return table.concat(letters)
end

local function checksum(text)
  local sum = 5381
  for i = 1, #text do sum = (sum * 33 + text:byte(i)) & 0xffffffff end
  return sum
end

local function one_round(round)
  local words, index = {}, {}
  for i = 1, 3000 do
    local w = word()
    words[i] = w
    local key = w:sub(1, 2)
    index[key] = index[key] or {}
    table.insert(index[key], { word = w, place = i })
  end
  local keys = {}
  for key in pairs(index) do keys[#keys + 1] = key end
  table.sort(keys)
  local out = {}
  for _, key in ipairs(keys) do
    table.sort(index[key], function(a, b)
      return a.word < b.word or (a.word == b.word and a.place < b.place)
    end)
    for _, entry in ipairs(index[key]) do out[#out + 1] = ("%s@%d"):format(entry.word, entry.place) end
  end
  local page = table.concat(words, " "):gsub("(%a)(%a*)(%a)", "%3%2%1")
  local producer = coroutine.wrap(function()
    for i = 1, 5000 do coroutine.yield({ i, tostring(i * round) }) end
  end)
  local sum = 0
  for item in producer do sum = sum + item[1] + #item[2] end
  local functions = {}
  for i = 1, 2000 do functions[i] = function(n) i = i + n; return i end end
  for i = 1, 2000 do sum = sum + functions[i](round) end
  local trees = 0
  for _ = 1, 4 do trees = trees + total(tree(12)) end
  return checksum(table.concat(out, ",")), checksum(page), sum, trees
end

for round = 1, tonumber(arg[1]) do print(round, one_round(round)) end
