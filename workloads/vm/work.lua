-- closures, tables, strings, coroutines, numbers of both kinds, the collector
local words = {}
local state = 42
local function random(n) state = (state * 1103515245 + 12345) % 2147483648; return state % n end
for i = 1, 20000 do
  local letters = {}
  for j = 1, 3 + random(6) do letters[j] = string.char(97 + random(26)) end
  words[i] = table.concat(letters)
end
table.sort(words)
local counts = {}
for _, w in ipairs(words) do counts[w:sub(1, 2)] = (counts[w:sub(1, 2)] or 0) + 1 end
local keys = {}
for k in pairs(counts) do keys[#keys + 1] = k end
table.sort(keys)
for _, k in ipairs(keys) do if counts[k] > 35 then print(k, counts[k]) end end
local function primes(n)
  return coroutine.wrap(function()
    local composite = {}
    for i = 2, n do
      if not composite[i] then coroutine.yield(i) for j = i * i, n, i do composite[j] = true end end
    end
  end)
end
local sum, last = 0, 0
for p in primes(100000) do sum = sum + p; last = p end
print(sum, last)
local x = 0.0
for i = 1, 300000 do x = x + math.sin(i) / i end
print(string.format('%.15g', x))
local text = string.rep('the quick brown fox ', 500)
print(#text:gsub('%w+', string.upper), select(2, text:gsub('o', '0')))
print(collectgarbage('count') > 0)
